"""The adapter's package as it is installed, and an interpreter with torch that computes with it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.adapter.kernels import BASE_VERSION, AdapterVersion, Kernels
from provisioner.adapter.sources import package_files
from tests.verifying import conftest as verifying

torch_python = verifying.torch_python

Compute = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``flash_attn`` in it, as the wheel without compiled kernels installs it."""
    folder = tmp_path_factory.mktemp("adapter")
    for name, content in package_files(AdapterVersion(BASE_VERSION, Kernels.ATEN)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def compute(package: Path, torch_python: Path) -> Iterator[Compute]:
    """Answer cases of `tests.adapter.computing` in a process of their own that stays."""
    yield from answers("tests.adapter.computing", package, torch_python)


@pytest.fixture(scope="session")
def rotate(package: Path, torch_python: Path) -> Iterator[Compute]:
    """Answer cases of `tests.adapter.rotating`, likewise."""
    yield from answers("tests.adapter.rotating", package, torch_python)


def answers(module: str, package: Path, torch_python: Path) -> Iterator[Compute]:
    process = subprocess.Popen(
        [torch_python, "-W", "ignore", "-m", module, package],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    questions, answers = process.stdin, process.stdout

    def ask(kind: str, **case: Any) -> dict[str, Any]:
        print(json.dumps({"kind": kind, **case}), file=questions, flush=True)
        line = answers.readline()
        assert line, f"the computing process ended over {kind} {case}"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    yield ask
    questions.close()
    process.wait(30)
