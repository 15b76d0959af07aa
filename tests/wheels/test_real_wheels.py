"""Against the real things: torch, xformers, bitsandbytes and flash-attn as published, the system's loader, and NVIDIA's own tool.

``TEST_TORCH_PYTHON`` may name an interpreter whose torch is 2.14.1 with CUDA 13; otherwise that is installed, which takes minutes and 5 GB.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import pytest

from provisioner.wheels.dry_link import demand_of, link
from provisioner.wheels.extension import inspect_extension
from provisioner.wheels.inspect import inspect
from provisioner.wheels.linkage import Abi
from provisioner.wheels.torch_facts import read_torch, read_torch_archs
from provisioner.wheels.verdict import Target, reject_reasons
from tests.verifying import conftest as verifying

pytestmark = [pytest.mark.slow, pytest.mark.network]
torch_python = verifying.torch_python

UNIT = "csrc/flash_attn/src/flash_fwd_hdim64_fp16_sm80.cu"
TORCH_EXTENSION = """
#include <torch/extension.h>
at::Tensor twice(const at::Tensor &x) { TORCH_CHECK(x.is_contiguous(), "contiguous, please: ", x.sizes()); return x + x; }
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) { m.def("twice", &twice); }
"""


def pip(*words: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, timeout=1800, check=False)
    if done.returncode != 0:
        pytest.skip(f"not to be had from the index here: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of xformers, bitsandbytes and cuobjdump."""
    folder = tmp_path_factory.mktemp("shelf")
    pip(
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        folder,
        "xformers==0.0.35",
        "bitsandbytes==0.50.2",
        "nvidia-cuda-cuobjdump==13.5.37",
    )
    return folder


@pytest.fixture(scope="session")
def torch_cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package folder with the CUDA 13 build of torch 2.14.1 and everything it needs."""
    if named := os.environ.get("TEST_TORCH_PYTHON"):
        torch = read_torch(Path(named))
        if torch and torch.version == "2.14.1+cu130":
            return torch.lib_dir.parents[1]
    folder = tmp_path_factory.mktemp("torch-cuda")
    pip("install", "--quiet", "--target", folder, "torch==2.14.1")
    return folder


@pytest.fixture(scope="session")
def torch_cpu(torch_python: Path) -> Path:
    """A package folder with the CPU build of torch 2.13.0."""
    torch = read_torch(torch_python)
    if torch is None or torch.cuda is not None:
        pytest.skip("the index here has no CPU build of torch 2.13.0")
    return torch.lib_dir.parents[1]


def unpacked(shelf: Path, name: str) -> Path:
    wheel = next(shelf.glob(f"{name}-*.whl"))
    folder = shelf / name
    if not folder.is_dir():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def loader_says(extension: Path, packages: Path) -> str:
    """Load the extension after ``import torch`` in a child process, as an import would, and return the loader's complaint."""
    code = "import ctypes, os, sys, torch\ntry: ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)\nexcept OSError as error: print(error)"
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    done = subprocess.run(
        [sys.executable, "-c", code, extension], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.strip()


def test_torch_is_read_as_it_is(torch_cuda: Path) -> None:
    torch = read_torch(torch_cuda)
    assert torch is not None
    assert (torch.version, torch.cuda, torch.abi) == ("2.14.1+cu130", "13.0", Abi.CXX11)
    assert {"sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"} <= set(read_torch_archs(torch.lib_dir))
    assert "sm_70" not in read_torch_archs(torch.lib_dir)


@pytest.mark.parametrize("name", ["xformers", "bitsandbytes"])
def test_the_dry_link_of_published_extensions_says_what_the_loader_says(shelf: Path, torch_cuda: Path, name: str) -> None:
    lib_dir = torch_cuda / "torch" / "lib"
    extensions = [path for path in sorted(unpacked(shelf, name).rglob("*.so")) if not re.search("rocm|xpu", path.name)]
    assert extensions
    for path in extensions:
        started = time.perf_counter()
        result = link(demand_of(path), lib_dir)
        assert time.perf_counter() - started <= 3
        assert result.missing_symbols == ()
        complaint = loader_says(path, torch_cuda)
        assert bool(complaint) == bool(result.missing_libraries), (path.name, complaint, result)
        assert not complaint or complaint.split(":")[0] in result.missing_libraries


def test_the_library_of_bitsandbytes_for_this_cuda_is_not_blamed_for_the_others(shelf: Path, torch_cuda: Path) -> None:
    torch = read_torch(torch_cuda)
    assert torch is not None
    found = inspect(next(shelf.glob("bitsandbytes-*.whl")), against=torch.lib_dir)
    target = Target(gpus=("7.5", "9.0"), torch=torch.version, torch_cuda=torch.cuda, abi=torch.abi)
    assert reject_reasons(found, target) == ()
    assert {"11", "12", "13"} == {one.cudart for one in found.extensions if one.cudart}


def test_a_cuda_extension_against_a_cpu_torch_lacks_the_cuda_symbols(shelf: Path, torch_cpu: Path) -> None:
    found = inspect(unpacked(shelf, "xformers") / "xformers" / "_C.so", against=torch_cpu / "torch" / "lib")
    assert found.abi is Abi.STABLE
    assert set(found.undefined or ()) == {
        "torch_c10_cuda_free_error_msg",
        "aoti_torch_get_current_cuda_stream",
        "torch_c10_cuda_check_msg",
    }
    assert "libtorch_cuda.so" in (found.missing_libraries or ())


def test_nvidias_cuobjdump_sees_the_same_architectures(shelf: Path, torch_cuda: Path) -> None:
    """Where it works: 13.5.37 says "Invalid ELF" of one library of bitsandbytes and of vLLM's flash-attn, which loaders load."""
    tool = next(unpacked(shelf, "nvidia_cuda_cuobjdump").rglob("bin/cuobjdump"))
    tool.chmod(0o755)
    bitsandbytes = sorted(unpacked(shelf, "bitsandbytes").rglob("*cuda1*.so"))
    agreed = []
    for path in [
        unpacked(shelf, "xformers") / "xformers" / "_C.so",
        *bitsandbytes,
        torch_cuda / "torch" / "lib" / "libtorch_cuda.so",
    ]:
        theirs = archs_by_cuobjdump(tool, path)
        if theirs is None:
            continue
        # the tool prints no `f`: sm_103f of torch 2.14.1 is sm_103 there
        assert {arch.removesuffix("f") for arch in inspect_extension(path).archs} == theirs, path.name
        agreed.append(path.name)
    assert {"_C.so", "libtorch_cuda.so", "libbitsandbytes_cuda130.so"} <= set(agreed)


def archs_by_cuobjdump(tool: Path, path: Path) -> set[str] | None:
    """Return the architectures that the tool lists, None where it cannot read the file."""
    found: set[str] = set()
    for option, pattern, kind in (("-lelf", r"\.sm_(\w+)\.cubin", "sm"), ("-lptx", r"\.sm_(\w+)\.ptx", "compute")):
        done = subprocess.run([tool, option, path], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            return None
        found |= {f"{kind}_{number}" for number in re.findall(pattern, done.stdout)}
    return found


def test_inspecting_half_a_gigabyte_costs_little_of_our_own_time(torch_cuda: Path) -> None:
    """2,922 images and 3,432 undefined symbols: many times what a flash-attn of 250 MB has."""
    library = torch_cuda / "torch" / "lib" / "libtorch_cuda.so"
    inspect_extension(library)
    spent = []
    for _ in range(5):
        started = time.process_time()
        inspect_extension(library)
        spent.append(time.process_time() - started)
    assert min(spent) <= 0.2


def test_the_sdist_built_for_turing_is_nothing_but_stubs(torch_cuda: Path, nvcc: str, tmp_path: Path) -> None:
    """flash-attn 2.8.3.post2: the unit compiles for sm_75 without a warning about it."""
    csrc = flash_attn_sources(tmp_path) / "csrc"
    include = torch_cuda / "torch" / "include"
    folders = [
        csrc / "flash_attn",
        csrc / "flash_attn" / "src",
        csrc / "cutlass" / "include",
        include,
        include / "torch" / "csrc" / "api" / "include",
        sysconfig.get_paths()["include"],
    ]
    flags = ["-std=c++20", "-O3", "--expt-relaxed-constexpr", "--expt-extended-lambda", "--use_fast_math", "-Xcompiler", "-fPIC"]
    undo = [f"-U__CUDA_NO_{name}__" for name in ("HALF_OPERATORS", "HALF_CONVERSIONS", "HALF2_OPERATORS", "BFLOAT16_CONVERSIONS")]
    target = tmp_path / "unit.o"
    argv = [nvcc, *flags, *undo, "-gencode", "arch=compute_75,code=sm_75", *[f"-I{folder}" for folder in folders]]
    done = subprocess.run(
        [*argv, "-c", csrc.parent / UNIT, "-o", target], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    found = inspect(target)
    assert (found.archs, found.stubs, found.kernels) == (("sm_75",), ("sm_75",), False)
    assert [one.code for one in reject_reasons(found, Target(gpus=("7.5",)))] == ["stub-kernels"]


def flash_attn_sources(folder: Path) -> Path:
    from provisioner.building.releases import find_release
    from provisioner.building.sources import fetch_sdist, unpack

    return unpack(fetch_sdist(find_release("2.8.3.post2")), folder / "sdist")


def test_our_own_build_links_against_the_torch_it_was_built_with_and_no_older_one(
    torch_cuda: Path, torch_cpu: Path, gxx: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "twice.cpp", tmp_path / "twice.so"
    source.write_text(TORCH_EXTENSION)
    include, libraries = torch_cuda / "torch" / "include", torch_cuda / "torch" / "lib"
    folders = [include, include / "torch" / "csrc" / "api" / "include", Path(sysconfig.get_paths()["include"])]
    argv = [gxx, "-shared", "-fPIC", "-std=c++20", "-O0", "-DTORCH_EXTENSION_NAME=twice", *[f"-I{folder}" for folder in folders]]
    done = subprocess.run(
        [*argv, source, f"-L{libraries}", "-lc10", "-ltorch_cpu", "-ltorch", "-ltorch_python", "-o", target],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = inspect(target, against=libraries)
    assert (found.abi, found.undefined, found.missing_libraries) == (Abi.CXX11, (), ())
    assert loader_says(target, torch_cuda) == ""
    other = inspect(target, against=torch_cpu / "torch" / "lib").undefined or ()
    complaint = loader_says_alone(target, torch_cpu)
    assert bool(other) == ("undefined symbol" in complaint)
    assert not other or any(f"undefined symbol: {name}" in complaint for name in other)


def loader_says_alone(extension: Path, packages: Path) -> str:
    """Load the extension against torch's libraries where torch itself (without its dependencies) cannot be imported."""
    code = "import ctypes, os, sys\ntry: ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)\nexcept OSError as error: print(error)"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(packages / "torch" / "lib")}
    done = subprocess.run(
        [sys.executable, "-c", code, extension], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    return done.stdout.strip()
