"""A broken flash-attn is replaced by the right one, from a release server, or taken away where there is none."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Repair
from provisioner.diagnosing.fixing import steps
from provisioner.diagnosing.flash_attn_repair import carry_out, choose, described
from provisioner.diagnosing.inventory import take
from provisioner.errors import ProvisionError
from provisioner.machine.facts import Driver, Gpu, Machine
from provisioner.machine.probe import probe
from tests.diagnosing.broken import install, make_wheel
from tests.e2e.world import World, make_world

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(), reason="no nvcc to make the extension"
    ),
]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SMI = """#!/bin/sh
case "$*" in *query-compute-apps*) exit 0 ;; *query-gpu*) ;; *) exit 9 ;; esac
for word in "$@"; do case $word in --query-gpu=*) fields=$(echo "${word#--query-gpu=}" | tr , ' ') ;; esac; done
row=
for field in $fields; do
  case $field in
    name) value="NVIDIA A100-SXM4-80GB" ;; driver_version) value=550.54.15 ;; compute_cap) value=8.0 ;;
    memory.total) value=81920 ;; memory.used) value=4 ;; memory.free) value=81916 ;; *) value="[N/A]" ;;
  esac
  row="$row${row:+, }$value"
done
echo "$row"
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        assert made.provision("knowledge", "update", "--official-only").returncode == 0
        yield made


@pytest.fixture
def python(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of a healthy environment of that world, whose servers this process sees too."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    words = ("create", "env", "--replace", "--gpu", "a100", "--driver", "550.54.15", "--python", PYTHON)
    prefix = world.document(*words)["environment"]["prefix"]
    return Path(prefix) / "bin" / "python"


def machine_of(python: Path) -> Machine:
    """This machine's software as it is, with a GPU that it does not have."""
    here = probe(python=python)
    return replace(here, gpus=(Gpu("A100", "8.0", 81920, source="user"),), driver=Driver("550.54.15", "12.4"), faults=())


def broken_with(python: Path, folder: Path, version: str, **files: bytes) -> set[str]:
    contents: dict[str, str | bytes] = {"flash_attn/__init__.py": "", **files}
    install(python, make_wheel(folder, "flash-attn", version, contents))
    return {finding.code for finding in diagnose(Machine(), take(python))}


def test_one_outside_the_range_of_xformers_is_replaced_by_one_inside(python: Path, tmp_path: Path) -> None:
    name = f"flash_attn_2_cuda.cpython-{PYTHON.replace('.', '')}-x86_64-linux-gnu.so"
    assert "xformers-flash-attn-range" in broken_with(python, tmp_path, "2.8.3", **{name: b"\x7fELF"})
    (step,) = steps(diagnose(Machine(), take(python)))
    assert step.repair is Repair.FLASH_ATTN
    machine = machine_of(python)
    plan = choose(machine)
    assert described(plan) == "install flash-attn 2.8.0.post2 (its wheel) for torch 2.7.1"
    carry_out(python, plan, machine)
    inventory = take(python)
    assert inventory.version("flash-attn") == "2.8.0.post2"
    assert not steps(diagnose(Machine(), inventory))


def test_one_without_kernels_is_replaced_by_one_with_kernels(python: Path, tmp_path: Path) -> None:
    assert "flash-attn-no-kernels" in broken_with(python, tmp_path, "2.8.0")
    machine = machine_of(python)
    carry_out(python, choose(machine), machine)
    assert "flash-attn-no-kernels" not in {finding.code for finding in diagnose(Machine(), take(python))}


def test_for_a_gpu_without_kernels_there_is_none_and_the_reason_is_said(python: Path) -> None:
    maxwell = replace(machine_of(python), gpus=(Gpu("GTX 980", "5.2", 4096, source="user"),))
    with pytest.raises(ProvisionError) as raised:
        choose(maxwell)
    assert raised.value.what


def test_the_command_line_shows_what_it_would_install_and_changes_nothing(world: World, python: Path, tmp_path: Path) -> None:
    broken_with(python, tmp_path, "2.8.0")
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text(SMI)
    smi.chmod(0o755)
    run = world.provision("doctor", "--python", str(python), "--fix", "--dry-run", PATH=f"{smi.parent}:{world.environ['PATH']}")
    assert run.returncode == 1, run.stderr
    assert "flash-attn-no-kernels: " in run.stdout, run.stdout + run.stderr
    assert take(python).version("flash-attn") == "2.8.0"
    assert "install flash-attn 2.8.0.post2 (its wheel) for torch 2.7.1   [reversible]" in run.stdout, run.stdout
