"""Real flash-attn units against a real torch: compiled, linked, inspected, imported without a GPU. Minutes and gigabytes.

``TEST_TORCH_PYTHON`` may name an interpreter that has a torch with CUDA 13 and setuptools; otherwise one is made with uv. The compiler
is the machine's, where it has one for CUDA 13, else that of the package index.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioner.building.build import BuildOrder, build_flash_attn
from provisioner.building.foreign import TreeOrder, build_tree
from provisioner.building.sources import NamedTree
from provisioner.building.target import read_target
from provisioner.building.toolchain import find_toolchain, install_wheels
from provisioner.errors import BuildFailed
from provisioner.indexes import read_index_settings
from provisioner.planning.values import KernelSelection
from provisioner.wheels.inspect import inspect
from tests.building.cgroups import limited

pytestmark = [pytest.mark.slow, pytest.mark.network]
UV = [sys.executable, "-m", "uv"]
LIMIT_MIB = 8192

IMPORT = """
import torch, flash_attn_2_cuda
from flash_attn import flash_attn_func
print(torch.__version__)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if named := os.environ.get("TEST_TORCH_PYTHON"):
        return Path(named)
    folder = tmp_path_factory.mktemp("torch") / "env"
    subprocess.run([*UV, "venv", "-q", "--python", sys.executable, folder], check=True)
    packages = ["torch==2.13.0", "numpy", "setuptools"]
    subprocess.run([*UV, "pip", "install", "-q", "--python", folder / "bin" / "python", *packages], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def toolkit(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return find_toolchain(read_target(python)).root
    except BuildFailed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PROVISION_CACHE_DIR", str(tmp_path_factory.mktemp("toolkit")))
            return install_wheels("13.0", read_index_settings())


def run_beside(python: Path, wheel: Path, folder: Path, code: str) -> str:
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(folder)
    subprocess.run([*UV, "pip", "install", "-q", "--no-deps", "--target", folder, "einops"], check=True)
    env = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Confined:
    """A build that ran in a control group; ``oom_kills`` is None where none could be made."""

    wheel: Path
    compiled: tuple[str, ...]
    peak_mib: int
    retries: int
    oom_kills: int | None


CHILD = """
import json, sys
from pathlib import Path
if sys.argv[3]:
    open(sys.argv[3], "w").write("0")
from provisioner.building.build import BuildOrder, build_flash_attn
from provisioner.planning.values import KernelSelection
choice = KernelSelection("custom", (64,), ("bf16",), ("backward", "varlen"))
built = build_flash_attn(BuildOrder(Path(sys.argv[1]), ("sm_90",), kernels=choice, cuda_root=Path(sys.argv[2])))
print(json.dumps([str(built.path), built.compiled, built.peak_mib, built.retries]))
"""


@pytest.fixture(scope="module")
def confined(python: Path, toolkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Confined:
    """One head dim and one dtype of the newest release, forward and backward, in a container's 8 GB."""
    cache = tmp_path_factory.mktemp("cache")
    env = {
        **os.environ,
        "PROVISION_CACHE_DIR": str(cache),
        "PROVISION_DATA_DIR": str(cache),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with limited(LIMIT_MIB) as group:
        argv = [sys.executable, "-c", CHILD, str(python), str(toolkit), str(group.procs) if group else ""]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        kills = group.oom_kills if group else None
    assert done.returncode == 0, done.stderr[-3000:]
    path, compiled, peak, retries = json.loads(done.stdout)
    return Confined(Path(path), tuple(compiled), peak, retries, kills)


def test_one_head_dim_and_one_dtype_of_the_newest_release_are_built_and_import(
    confined: Confined, python: Path, tmp_path: Path
) -> None:
    kernels = sorted(name for name in confined.compiled if "hdim" in name)
    assert kernels == [f"flash_{way}_hdim64_bf16{mask}_sm80" for way in ("bwd", "fwd") for mask in ("_causal", "")]
    found = inspect(confined.wheel)
    assert found.working_archs == ("sm_90",)
    assert found.cudart == "13"
    assert run_beside(python, confined.wheel, tmp_path, IMPORT) == read_target(python).torch.version


def test_in_8_gb_nobody_was_killed(confined: Confined) -> None:
    if confined.oom_kills is None:
        pytest.skip("no control group can be made here")
    assert confined.oom_kills == 0
    assert confined.retries == 0
    assert 2000 < confined.peak_mib < LIMIT_MIB


def test_a_turing_unit_of_the_last_1x_release_links_and_imports(python: Path, toolkit: Path, tmp_path: Path) -> None:
    choice = KernelSelection("custom", (32,), ("fp16",), ("varlen",))
    built = build_flash_attn(BuildOrder(python, ("sm_75",), version="1.0.9", kernels=choice, cuda_root=toolkit))
    assert "fmha_fwd_hdim32" in built.compiled
    assert inspect(built.path).working_archs == ("sm_75",)
    code = "import torch, flash_attn_cuda; from flash_attn.flash_attn_interface import flash_attn_unpadded_func; print('ok')"
    assert run_beside(python, built.path, tmp_path, code) == "ok"


SETUP = """
from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="own_attention",
    version="0.1",
    ext_modules=[CUDAExtension("own_attention", ["own.cu"], extra_compile_args={"nvcc": ["-O3", "-std=c++17"]})],
    cmdclass={"build_ext": BuildExtension},
)
"""
OWN = """
#include <Python.h>
#include <c10/cuda/CUDAStream.h>
__global__ void twice(float *x) { x[threadIdx.x] *= 2; }
static PyObject *run(PyObject *, PyObject *) {
  twice<<<1, 1, 0, c10::cuda::getCurrentCUDAStream()>>>(nullptr);
  Py_RETURN_NONE;
}
static PyMethodDef methods[] = {{"run", run, METH_NOARGS, ""}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "own_attention", "", -1, methods};
PyMODINIT_FUNC PyInit_own_attention() { return PyModule_Create(&definition); }
"""


def test_a_named_tree_is_built_by_its_own_setup_py_for_the_archs_that_were_asked_for(
    python: Path, toolkit: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "setup.py").write_text(SETUP)
    (tree / "own.cu").write_text(OWN)
    order = TreeOrder(NamedTree(str(tree)), python, ("sm_75", "compute_75"), cuda_root=toolkit)
    built = build_tree(order)
    found = inspect(built.path)
    assert found.archs == ("sm_75", "compute_75")
    assert build_tree(order).reused
    with zipfile.ZipFile(built.path) as bundle:
        provenance = json.loads(bundle.read("own_attention-0.1.dist-info/provenance.json"))
    assert provenance["inputs"]["archs"] == ["sm_75", "compute_75"]
    with pytest.raises(BuildFailed, match="sm_90"):  # its setup.py, told of another arch by mistake, is found out
        build_tree(TreeOrder(NamedTree(str(hard_coded(tree))), python, ("sm_90",), cuda_root=toolkit))


def hard_coded(tree: Path) -> Path:
    """Make ``tree`` one that compiles for Turing whatever it is told, as ssiu/flash-attention-turing does."""
    (tree / "setup.py").write_text(SETUP.replace('"-O3"', '"-O3", "-arch=sm_75"'))
    return tree
