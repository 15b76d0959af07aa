"""Real transformers beside the adapter's wheel: its models are imported and compute what they compute without flash-attn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock

from provisioner.adapter.kernels import AdapterVersion
from provisioner.adapter.wheel import AdapterOrder, make_adapter
from provisioner.building.wheelhouse import Wheelhouse
from tests.verifying.conftest import PIP_SETTINGS

pytestmark = [pytest.mark.slow, pytest.mark.network]

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("4.49.0", "4.51.3", "4.52.4", "4.53.3", "4.57.6", "5.0.0", "5.24.0")
"""4.49 to 4.52 turn the patches of Qwen2.5-VL with `apply_rotary_emb`, 4.51 to 4.53 import it with every model; to 5.0 ModernBERT takes the module."""

ERRORS = {"llama": 1e-3, "modernbert": 1e-2, "qwen_vision": 1e-3}
"""ModernBERT is in half precision; unturned, or with gradients not turned back, it is off by 0.09."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adapter and its dist-info, which transformers asks for the version."""
    folder = tmp_path_factory.mktemp("installed")
    order = AdapterOrder(AdapterVersion.parse("2.8.3+aten"))
    with pytest.MonkeyPatch.context() as patch:  # a module's fixture is made before a test's environment is cleaned
        patch.setenv("PROVISION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        wheel = make_adapter(order, wheelhouse=Wheelhouse(tmp_path_factory.mktemp("wheelhouse"))).path
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(folder)
    return folder


def transformers(version: str, torch_python: Path) -> Path:
    """A folder with that transformers and what it needs besides torch, beside torch's environment and kept like it."""
    folder = torch_python.parents[2] / f"transformers-{version}-py{sys.version_info.major}{sys.version_info.minor}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "ready").exists():
            command = [str(torch_python), "-m", "pip", "install", "--quiet", "--target", str(folder), f"transformers=={version}"]
            made = subprocess.run(command, env={**os.environ, **PIP_SETTINGS}, capture_output=True, text=True, timeout=900)
            if made.returncode:
                pytest.skip(f"transformers {version} cannot be had here: {made.stderr.strip().splitlines()[-1:]}")
            (folder / "ready").touch()
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_models_compute_the_same_with_it(version: str, torch_python: Path, installed: Path) -> None:
    path = os.pathsep.join(str(folder) for folder in (transformers(version, torch_python), installed))
    command = [str(torch_python), "-W", "ignore", "-m", "tests.adapter.models"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    errors = json.loads(done.stdout)
    assert set(errors) == set(ERRORS)
    assert all(max(errors[name]) <= most for name, most in ERRORS.items()), errors
