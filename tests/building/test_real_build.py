"""Real flash-attn units against a real torch: compiled, linked with stubs, imported without a GPU. Minutes and gigabytes.

``TEST_TORCH_PYTHON`` may name an interpreter that has torch 2.13.0 with CUDA 13.0 and einops; otherwise one is made with uv.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from provisioner.building.build import BuildOrder, BuiltWheel, build_flash_attn
from provisioner.building.toolchain import install_wheels
from provisioner.planning.values import KernelSelection

pytestmark = [pytest.mark.slow, pytest.mark.network]
UV = [sys.executable, "-m", "uv"]

IMPORT = """
import torch, flash_attn
import flash_attn_2_cuda
print(flash_attn.__version__, torch.__version__)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if named := os.environ.get("TEST_TORCH_PYTHON"):
        return Path(named)
    folder = tmp_path_factory.mktemp("torch") / "env"
    subprocess.run([*UV, "venv", "-q", "--python", sys.executable, folder], check=True)
    subprocess.run(
        [*UV, "pip", "install", "-q", "--python", folder / "bin" / "python", "torch==2.13.0", "einops", "numpy"], check=True
    )
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def toolkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVISION_CACHE_DIR", str(tmp_path_factory.mktemp("toolkit")))
        return install_wheels("13.0")


def run_beside(python: Path, wheel: BuiltWheel, folder: Path, code: str) -> str:
    with zipfile.ZipFile(wheel.path) as bundle:
        bundle.extractall(folder)
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_forward_units_of_the_newest_release_link_with_stubs_and_import(python: Path, toolkit: Path, tmp_path: Path) -> None:
    choice = KernelSelection("custom", (64,), ("bf16",), ("varlen", "uneven"))
    built = build_flash_attn(BuildOrder(python, ("sm_90",), kernels=choice, cuda_root=toolkit))
    assert sum(name.startswith("flash_fwd") for name in built.compiled) == 4
    assert run_beside(python, built, tmp_path, IMPORT).startswith("2.8.3.post2 2.13.0")


def test_a_turing_unit_of_the_last_1x_release_links_and_imports(python: Path, toolkit: Path, tmp_path: Path) -> None:
    choice = KernelSelection("custom", (32,), ("fp16",), ("varlen",))
    order = BuildOrder(python, ("sm_75",), version="1.0.9", kernels=choice, cuda_root=toolkit)
    built = build_flash_attn(order)
    assert "fmha_fwd_hdim32" in built.compiled
    code = "import torch, flash_attn_cuda; from flash_attn.flash_attn_interface import flash_attn_unpadded_func; print('ok')"
    assert run_beside(python, built, tmp_path, code) == "ok"
