"""A real environment with a CPU torch, made once and kept; and small extensions that do not load."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

TORCH = "2.13.0"
HERE = Path(__file__).resolve().parent
PLAIN = HERE / "plain"
STAND_INS = (HERE / "stand_ins", PLAIN)
"""What goes on the module path: a flash-attn of generation 2, and the attention that it and the other generations compute with."""

PIP_SETTINGS = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_"))}
"""How this machine's pip finds packages; read before the suite scrubs the environment, since making this venv is set-up, not a test."""


@pytest.fixture(scope="session")
def torch_python(request: pytest.FixtureRequest) -> Path:
    """The interpreter of an environment that holds torch; skips where torch cannot be had."""
    tag = f"torch-{TORCH}-py{sys.version_info.major}{sys.version_info.minor}"
    kept = os.environ.get("PROVISION_TEST_CACHE")
    root = (Path(kept) if kept else Path(request.config.cache.mkdir("environments"))) / tag
    root.parent.mkdir(parents=True, exist_ok=True)
    python = root / "bin" / "python"
    with FileLock(f"{root}.lock"):
        if not (root / "ready").exists():
            venv.create(root, clear=True, with_pip=True)
            command = [str(python), "-m", "pip", "install", "--quiet", f"torch=={TORCH}"]
            made = subprocess.run(command, env={**os.environ, **PIP_SETTINGS}, capture_output=True, text=True, timeout=900)
            if made.returncode:
                pytest.skip(f"torch {TORCH} cannot be had here: {made.stderr.strip().splitlines()[-1:]}")
            (root / "ready").touch()
    return python


@pytest.fixture
def broken_extension(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of a folder with a ``flash_attn`` whose compiled module is linked wrongly in the way asked for."""

    def make(source: str, *, library: str | None = None) -> Path:
        folder = tmp_path / "broken"
        (folder / "flash_attn").mkdir(parents=True)
        (folder / "flash_attn" / "__init__.py").write_text("import torch\nimport flash_attn_2_cuda\n__version__ = '2.8.3'\n")
        flags: list[str] = []
        if library is not None:
            shared = tmp_path / library
            _compile("int from_library(void) { return 1; }", shared, [f"-Wl,-soname,{library}"])
            flags = [str(shared)]
        target = folder / f"flash_attn_2_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
        _compile(source, target, flags)
        if library is not None:
            (tmp_path / library).unlink()
        return folder

    return make


def _compile(source: str, target: Path, flags: list[str]) -> None:
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", str(target), *flags]
    subprocess.run(command, input=source, text=True, check=True)
