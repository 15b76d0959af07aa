"""Which library wins, which compiler works, which devices are visible: real loaders and compilers, a driver of our own."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.diagnosing.checks import host, loader
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding
from provisioner.diagnosing.inventory import Copy, Interpreter, Inventory, take
from provisioner.diagnosing.reports import diagnose_report
from provisioner.machine.facts import Machine
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages

TORCH = """
import ctypes, os
__version__ = "2.7.1+cu126"
class version: cuda, hip = "12.6", None
class _C: _GLIBCXX_USE_CXX11_ABI = True
class cuda:
    is_available = staticmethod(lambda: False)
ctypes.CDLL(os.path.join(os.path.dirname(__file__), "lib", "libtorch_cuda.so"))
"""
SMI = """#!/bin/sh
case "$*" in
  *query-gpu*) echo "NVIDIA A100-SXM4-80GB, 550.54.15, 81920, 4, 81916, 8.0, GPU-1, 00000000:07:00.0" ;;
esac
"""


def library(path: Path, soname: str, *words: str, code: str = "int nothing(void) { return 0; }") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    source = path.with_suffix(".c")
    source.write_text(code)
    subprocess.run(["gcc", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", path, source, *words], check=True)
    return path


def examine(python: Path) -> dict[str, Finding]:
    return {finding.code: finding for finding in diagnose(Machine(), take(python))}


@pytest.mark.subprocess
def test_a_library_that_stands_before_torchs_own_is_named_with_the_variable_that_put_it_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = make_venv(tmp_path / "env", with_pip=False)
    install(python, make_wheel(tmp_path, "torch", "2.7.1", {"torch/__init__.py": TORCH}))
    site = site_packages(python)
    own = library(site / "nvidia/cuda_runtime/lib/libcudart.so.12", "libcudart.so.12")
    needs = "-Wl,--no-as-needed", str(own), "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../../nvidia/cuda_runtime/lib"
    library(site / "torch/lib/libtorch_cuda.so", "libtorch_cuda.so", *needs)
    assert "cuda-library-shadowed" not in examine(python)
    other = library(tmp_path / "cuda-12.1" / "lib64" / "libcudart.so.12", "libcudart.so.12")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(other.parent))
    found = examine(python)["cuda-library-shadowed"]
    assert f"loaded: {other}" in found.evidence
    assert "LD_LIBRARY_PATH puts them first" in found.title


@pytest.mark.subprocess
def test_libraries_that_are_links_into_a_cache_are_torchs_own(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "env", with_pip=False)
    install(python, make_wheel(tmp_path, "torch", "2.7.1", {"torch/__init__.py": TORCH}))
    site = site_packages(python)
    cached = library(tmp_path / "cache" / "archive-v0" / "a1" / "libcudart.so.12", "libcudart.so.12")
    own = site / "nvidia/cuda_runtime/lib/libcudart.so.12"
    own.parent.mkdir(parents=True)
    own.symlink_to(cached)
    needs = "-Wl,--no-as-needed", str(own), "-Wl,--enable-new-dtags,-rpath,$ORIGIN/../../nvidia/cuda_runtime/lib"
    library(site / "torch/lib/libtorch_cuda.so", "libtorch_cuda.so", *needs)
    assert "cuda-library-shadowed" not in examine(python)


@pytest.mark.subprocess
def test_a_stub_of_the_driver_is_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = make_venv(tmp_path / "env", with_pip=False)
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI)
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    assert "libcuda-not-found" in examine(python)
    stub = library(tmp_path / "lib64" / "stubs" / "libcuda.so.1", "libcuda.so.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub.parent))
    assert examine(python)["libcuda-is-a-stub"].primary


@pytest.mark.subprocess
def test_a_compiler_that_does_not_work_is_found_by_trying_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = make_venv(tmp_path / "env", with_pip=False)
    install(python, make_wheel(tmp_path, "triton", "3.7.1", {"triton/__init__.py": "", "triton/language.py": ""}))
    assert not {"no-c-compiler", "python-headers-missing", "c-compiler-fails"} & set(examine(python))
    monkeypatch.setenv("CC", "/opt/gcc-13/bin/gcc")
    assert "CC=/opt/gcc-13/bin/gcc" in examine(python)["no-c-compiler"].evidence
    broken = tmp_path / "cc"
    broken.write_text("#!/bin/sh\necho 'stub.c:1:10: fatal error: Python.h: No such file or directory' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert "python-headers-missing" in examine(python)


GPUS = ({"name": "NVIDIA A100", "uuid": "GPU-aa"}, {"name": "NVIDIA A100", "uuid": "GPU-bb"})
BASE = Inventory(Interpreter("/e/bin/python", "3.12.3", "/e", "/usr", "venv"), gpus=GPUS, torch={"devices": [{}]})


def visible(value: str, **more: object) -> list[str]:
    inventory = replace(BASE, variables={"CUDA_VISIBLE_DEVICES": value}, **more)  # type: ignore[arg-type]
    return [one.code for one in host.check(inventory)]


def test_visible_devices_are_compared_with_those_that_are_there() -> None:
    assert visible("0") == []
    assert visible("GPU-bb,1") == []
    assert visible("0,7") == ["visible-devices-wrong"]
    assert visible("GPU-cc,0") == ["visible-devices-wrong"]
    assert visible("", torch={"devices": []}) == ["no-visible-device"]
    assert visible("0", torch={"devices": [], "cuda": "13.0"}) == [], "a driver that is too old hides them, not the variable"
    assert visible("-1", torch={"devices": [], "cuda": None}) == [], "a CPU build of torch sees none"


def test_numbers_of_unlike_gpus_are_ambiguous() -> None:
    unlike = (GPUS[0], {"name": "NVIDIA T4", "uuid": "GPU-dd"})
    assert visible("1", gpus=unlike) == ["device-order-differs"]
    assert visible("GPU-dd", gpus=unlike) == []


def test_small_memory_is_said_of_a_container_and_of_wsl() -> None:
    def codes(**facts: object) -> list[str]:
        return [one.code for one in host.check(replace(BASE, host=facts))]

    assert codes(memory_mib=64000, memory_limit_mib=8000) == ["memory-limit-small"]
    assert codes(memory_mib=7900, wsl="2", wslconfig="8GB") == ["wsl-memory-small"]
    assert codes(memory_mib=64000, memory_limit_mib=32000, wsl="no") == []


def test_a_linux_driver_under_wsl_is_found_by_the_library_that_is_loaded() -> None:
    def codes(path: str) -> list[str]:
        inventory = replace(BASE, host={"wsl": "2"}, libcuda={"path": path, "error": None})
        return [one.code for one in loader.check(inventory)]

    assert codes("/usr/lib/x86_64-linux-gnu/libcuda.so.560.35") == ["wsl-linux-driver"]
    assert codes("/usr/lib/wsl/lib/libcuda.so.1") == []


def test_a_conda_package_of_the_same_environment_is_no_shadow() -> None:
    copy = Copy("2.7.1", "/e/lib/python3.12/site-packages", "x")
    inventory = replace(
        BASE, packages={"torch": (copy,)}, torch={"cuda": "12.6", "libraries": ["/e/lib/libcudart.so.12", "/e/lib/libcudnn.so.9"]}
    )
    assert not list(loader.check(inventory))


@pytest.mark.parametrize(
    "text",
    [
        "ImportError: Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by /usr/lib/python3.12/site-packages/torch/lib/libtorch.so)",
        "Error relocating /venv/lib/python3.11/site-packages/flash_attn_2_cuda.so: __vsnprintf_chk: symbol not found",
        "/lib/ld-musl-x86_64.so.1: cannot load",
    ],
)
def test_the_words_of_musls_loader_are_known(text: str) -> None:
    machine, findings = diagnose_report(text)
    assert machine.platform.musl == "musl"
    assert findings[0].code == "musl-unsupported"


def test_the_names_of_musl_wheels_alone_say_nothing_about_the_machine() -> None:
    assert diagnose_report("found link numpy-2.1.0-cp312-cp312-musllinux_1_2_x86_64.whl")[0].platform.musl is None
