"""Limits and places around an environment: file systems of one's own, a driver of our own, and what no GPU means."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.adapter.kernels import AdapterVersion, Kernels
from provisioner.adapter.wheel import provenance, write_adapter
from provisioner.diagnosing.checks import host
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding, Severity
from provisioner.diagnosing.inventory import Copy, Disk, Interpreter, Inventory, take
from provisioner.machine.facts import Driver, Gpu, Machine
from tests.conftest import Mount
from tests.diagnosing.broken import install, make_venv, make_wheel

pytestmark = pytest.mark.subprocess

T4 = Machine(gpus=(Gpu("Tesla T4", "7.5", 15360),), driver=Driver("550.54.15", "12.4"))
EMPTY = Inventory(Interpreter("/e/bin/python", "3.12.3", "/e", "/usr", "venv"))
CUDA_TORCH = "__version__ = '2.14.1+cu130'\nclass version: cuda, hip = '13.0', None\nclass cuda: is_available = staticmethod(lambda: False)\n"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_venv(tmp_path_factory.mktemp("envs") / "plain", with_pip=False)


def examine(python: Path, machine: Machine | None = None) -> dict[str, Finding]:
    return {finding.code: finding for finding in diagnose(machine or Machine(), take(python))}


def test_a_full_directory_for_temporary_files_is_found_though_python_passes_over_it(
    python: Path, mounted: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = mounted("size=64k")
    (full / "fill").write_bytes(b"x" * (1 << 16))
    monkeypatch.setenv("TMPDIR", str(full))
    found = examine(python)["disk-or-tmp-full"]
    assert found.primary
    assert str(full) in found.evidence[0]


def test_a_file_system_without_inodes_is_full_whatever_space_it_has(
    python: Path, mounted: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(mounted("nr_inodes=20,size=1g")))
    assert "inodes free" in examine(python)["disk-or-tmp-full"].evidence[0]


def test_a_cache_that_may_not_be_written_is_named_with_its_variable(
    python: Path, mounted: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(mounted("ro") / "hub"))
    assert "HF_HOME" in examine(python)["cache-not-writable"].title


def test_a_low_limit_of_open_files_is_said_with_the_command_that_raises_it(python: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        found = examine(python)["open-files-limit-low"]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "may have 256 files open" in found.title
    assert found.fix is not None
    assert (found.fix.command or "").startswith("ulimit -n ")
    assert "open-files-limit-low" not in examine(python)


def test_dockers_shared_memory_is_too_small_for_workers() -> None:
    def codes(total: int) -> list[str]:
        return [one.code for one in host.check(replace(EMPTY, disks={"shm": Disk("/dev/shm", total, total)}))]

    assert codes(64) == ["shared-memory-small"]
    assert codes(8192) == []


def test_a_cuda_torch_where_there_is_no_gpu_is_no_fault(python: Path, tmp_path: Path) -> None:
    install(python, make_wheel(tmp_path, "torch", "2.14.1", {"torch/__init__.py": CUDA_TORCH}))
    without = examine(python)
    assert "cuda-unavailable" not in without
    assert without["no-gpu-here"].severity is Severity.INFO
    assert examine(python, T4)["cuda-unavailable"].primary


def test_a_gpu_without_upstream_kernels_is_a_fault_only_beside_upstreams_package() -> None:
    def codes(*copies: Copy) -> set[str]:
        packages = {"flash-attn": copies} if copies else {}
        return {finding.code for finding in diagnose(T4, replace(EMPTY, packages=packages))}

    upstream = Copy("2.8.3", "/s", "/s/x", extensions=("/s/flash_attn_2_cuda.so",))
    assert "arch-unsupported-turing" in codes(upstream)
    assert "arch-unsupported-turing" not in codes(replace(upstream, version="1.0.9"))
    assert codes() == set()
    assert codes(Copy("2.8.3+aten", "/s", "/s/x", adapter="aten")) == set(), (
        "the adapter over PyTorch has no extension of its own"
    )


def test_our_adapter_is_known_by_its_wheels_own_record(python: Path, tmp_path: Path) -> None:
    version = AdapterVersion("2.8.3", Kernels.ATEN)
    wheel = write_adapter(tmp_path, version, provenance(version), None)
    install(python, wheel)
    assert take(python).packages["flash-attn"][0].adapter == "aten"
    found = examine(python, T4)
    assert not {"flash-attn-no-kernels", "arch-unsupported-turing"} & set(found)
