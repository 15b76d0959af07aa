"""Compilers that conda put into a prefix are found and work without its activation scripts.

The prefix here has the layout of conda-forge's cuda-nvcc, cuda-cudart-dev and gxx_linux-64 (headers and libraries below
``targets/x86_64-linux``, no ``lib64``, a host compiler with conda's name; staged-recipes 21350 and 21723), filled with this machine's toolkit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from provisioner import process
from provisioner.building import graph
from provisioner.building.compile import _environment
from provisioner.building.target import read_target
from provisioner.building.toolchain import check, find_toolchain
from tests.building.tiny import tiny_python

pytestmark = pytest.mark.integration

SYSTEM = Path("/usr/local/cuda")
UNIT = """
#include <cuda_runtime.h>
#include <cuda_bf16.h>
__global__ void kernel(int *out) { *out = 1; }
extern "C" int start() { kernel<<<1, 1>>>(nullptr); return cudaDeviceSynchronize(); }
"""


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree by hard links where possible: a compiler that is a symbolic link looks for its parts beside the real file."""

    def place(old: str, new: str) -> None:
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)

    shutil.copytree(source.resolve(), target, copy_function=place, symlinks=False, dirs_exist_ok=True)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    if not (SYSTEM / "nvvm" / "bin" / "cicc").exists() or shutil.which("g++") is None:
        pytest.skip("no CUDA toolkit to take the parts from")
    folder = tmp_path / "envs" / "unsloth"
    tiny_python(folder)
    link_tree(SYSTEM / "bin", folder / "bin")
    link_tree(SYSTEM / "nvvm", folder / "nvvm")
    link_tree(SYSTEM / "include", folder / "targets" / "x86_64-linux" / "include")
    libraries = folder / "targets" / "x86_64-linux" / "lib"
    libraries.mkdir()
    for library in SYSTEM.glob("lib64/libcudart.so*"):
        (libraries / library.name).symlink_to(library.resolve())
    for library in SYSTEM.glob("lib64/libcuda*.a"):
        (libraries / library.name).symlink_to(library.resolve())
    (folder / "bin" / "x86_64-conda-linux-gnu-c++").symlink_to(shutil.which("g++") or "")
    return folder


def test_the_prefixs_own_compilers_are_taken_and_compile(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDA_HOME", "CUDA_PATH", "CXX", "CONDA_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NVCC_PREPEND_FLAGS", "-ccbin=/another/env/bin/c++")  # left by the activation of another environment
    target = read_target(prefix / "bin" / "python")
    found = find_toolchain(target)
    assert found.root == prefix.resolve()
    assert found.cxx == prefix / "bin" / "x86_64-conda-linux-gnu-c++"
    check(found, target, None, ["sm_90", "compute_75"])

    build = prefix / "build"
    for name in ("tmp", "gen"):
        (build / name).mkdir(parents=True)
    (build / "gen" / "unit.cu").write_text(UNIT)
    includes, libraries = graph.lay_out(build, prefix, target, found)
    assert "cuda/targets/x86_64-linux/include" in includes
    assert "cuda/targets/x86_64-linux/lib" in libraries
    system = [word for folder in includes for word in ("-isystem", folder)]
    command = ["cuda/bin/nvcc", "-ccbin", str(found.cxx), *system, "-Xcompiler", "-fPIC", "-gencode", graph.gencode("sm_90")]
    done = process.run([*command, "-c", "gen/unit.cu", "-o", "unit.o"], timeout=120, cwd=build, env=_environment(build))
    assert done.ok, done.err
    search = [f"-L{folder}" for folder in libraries]
    subprocess.run([found.cxx, "-shared", "unit.o", "-o", "unit.so", *search, "-lcudart"], cwd=build, check=True)
