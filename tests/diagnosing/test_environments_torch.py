"""Faults that need a real torch: an extension of the other C++ ABI, and one that asks for a CUDA runtime that is not there."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding, Repair
from provisioner.diagnosing.fixing import apply, steps
from provisioner.diagnosing.inventory import take
from provisioner.machine.facts import Machine
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

OLD_ABI = """
extern "C" void _ZN3c105ErrorC2ENS_14SourceLocationESs(void);
extern "C" void *PyInit_flash_attn_2_cuda(void) { _ZN3c105ErrorC2ENS_14SourceLocationESs(); return 0; }
"""
NO_RUNTIME = """
extern "C" int cudaGetDeviceCount(int *);
extern "C" void *PyInit_flash_attn_2_cuda(void) { int n; cudaGetDeviceCount(&n); return 0; }
"""
CODE: dict[str, str | bytes] = {
    "flash_attn/__init__.py": "from flash_attn.flash_attn_interface import run\n",
    "flash_attn/flash_attn_interface.py": "import torch\nimport flash_attn_2_cuda\nrun = None\n",
}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with a real CPU torch, from the configured package index."""
    python = make_venv(tmp_path_factory.mktemp("envs") / "torch")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "torch==2.13.0"], check=True)
    return python


def extension(folder: Path, source: str, *flags: str) -> bytes:
    (folder / "extension.cpp").write_text(source)
    target = folder / "extension.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-Wl,-z,now", "-o", target, folder / "extension.cpp", *flags], check=True)
    return target.read_bytes()


def findings_with(python: Path, tmp_path: Path, binary: bytes) -> tuple[Finding, ...]:
    name = f"flash_attn_2_cuda.cpython-{site_packages(python).parent.name.removeprefix('python').replace('.', '')}-x86_64-linux-gnu.so"
    install(python, make_wheel(tmp_path, "flash-attn", "2.7.4", {**CODE, name: binary}))
    return diagnose(Machine(), take(python, import_seconds=120))


def of_the_old_abi(folder: Path) -> bytes:
    return extension(folder, OLD_ABI)


def without_its_runtime(folder: Path) -> bytes:
    (folder / "cudart.c").write_text("int cudaGetDeviceCount(int *n) { return *n = 0; }\n")
    library = folder / "libcudart.so.12"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,-soname,libcudart.so.12", "-o", library, folder / "cudart.c"], check=True)
    binary = extension(folder, NO_RUNTIME, str(library))
    library.unlink()
    return binary


@pytest.mark.parametrize(
    ("broken", "code"),
    [(of_the_old_abi, "undefined-symbol-abi-mismatch"), (without_its_runtime, "libcudart-missing")],
    ids=["an extension of the other C++ ABI", "a CUDA runtime that is not there"],
)
def test_what_cannot_be_loaded_is_found_and_beside_a_torch_that_has_none_taken_away(
    python: Path, tmp_path: Path, broken: Callable[[Path], bytes], code: str
) -> None:
    findings = findings_with(python, tmp_path, broken(tmp_path))
    assert next(finding.code for finding in findings if finding.primary) == code
    planned = steps(findings)
    assert [step.repair for step in planned] == [Repair.FLASH_ATTN]
    assert apply(planned[0]).ok, "its command is the way out where planning has none"
    assert not any(finding.primary for finding in diagnose(Machine(), take(python, import_seconds=120)))


def hang_of(python: Path, tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """The finding about an import of bitsandbytes that runs ``code``."""
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    install(python, make_wheel(tmp_path, "bitsandbytes", "0.50.2", {"bitsandbytes/__init__.py": code}))
    findings = diagnose(Machine(), take(python, import_seconds=45))
    return next(finding for finding in findings if finding.code == "import-hangs")


def test_torchs_own_wait_for_a_dead_builds_lock_is_named(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "extensions" / "py311_cpu" / "fused_adam" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    code = f"from torch.utils.file_baton import FileBaton\nFileBaton({str(lock)!r}).wait()\n"
    found = hang_of(python, tmp_path, code, monkeypatch)
    assert f"the lock {lock} of a build that has died" in found.title
    assert "the same line some seconds before" in found.evidence


def test_torchs_store_that_waits_for_a_missing_rank_is_named(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, torch.distributed as dist\n"
        "os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='0', RANK='0', WORLD_SIZE='2')\n"
        "import socket\nfree = socket.create_server(('127.0.0.1', 0))\n"
        "os.environ['MASTER_PORT'] = str(free.getsockname()[1])\nfree.close()\n"
        "dist.init_process_group('gloo')\n"
    )
    found = hang_of(python, tmp_path, code, monkeypatch)
    assert "other ranks of a process group" in found.title, (found.title, found.evidence)
