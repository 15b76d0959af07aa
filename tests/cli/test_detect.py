from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.cli.machine_text import machine_lines
from provisioner.machine.capture import read_machine, replay
from provisioner.machine.facts import Machine
from provisioner.machine.probe import probe

MACHINES = Path(__file__).resolve().parents[1] / "machines"
PROVISION = [sys.executable, "-m", "provisioner"]


def shown(folder: str) -> str:
    return "\n".join(machine_lines(replay(MACHINES / folder)))


def test_every_gpu_is_shown_with_what_is_known_and_the_source_that_answered() -> None:
    text = shown("linux-rtx3090x4+rtx5090x2-575.57.08")
    assert "GPU 0         NVIDIA GeForce RTX 3090, compute capability 8.6, 24576 MiB  [nvidia-smi]" in text
    assert "GPU 5         NVIDIA GeForce RTX 5090, compute capability 12.0, 32607 MiB  [nvidia-smi]" in text
    assert "575.57.08, runs CUDA up to 12.9" in text


def test_slices_guesses_limits_and_faults_are_named_as_such() -> None:
    assert "MIG instance" in shown("rhel9.5-h200-mig-590.48.01")
    assert "[name-guess]" in shown("ubuntu24.04-rtx4080-laptop-nodriver")
    assert "fault         driver-not-running: " in shown("ubuntu24.04-rtx4080-laptop-nodriver")
    assert "[cgroup v2]" in shown("k8s-h100-cgroup2-550.90.07")


def test_a_machine_of_which_nothing_is_known_is_shown_too() -> None:
    text = "\n".join(machine_lines(Machine()))
    assert "none found" in text
    assert "unknown" in text


@pytest.mark.subprocess
def test_json_is_one_document_with_the_names_that_other_tools_rely_on(tmp_path: Path) -> None:
    done = subprocess.run(
        [*PROVISION, "detect", "--json", "--python", sys.executable], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert set(document) == {"schema", "machine"}
    machine = document["machine"]
    assert set(machine["driver"]) == {"version", "cuda"}
    assert {"os", "glibc", "wsl", "machine"} <= set(machine["platform"])
    assert {"cpus", "memory_mib"} <= set(machine["resources"])
    assert {"python", "torch", "torch_cuda", "nvcc", "flash_attn"} <= set(machine["software"])
    (tmp_path / "facts.json").write_text(done.stdout)
    assert read_machine(tmp_path / "facts.json").software.python == sys.version.split()[0]


@pytest.mark.subprocess
def test_capture_writes_a_folder_that_reads_back_to_the_machine_it_printed(tmp_path: Path) -> None:
    done = subprocess.run([*PROVISION, "capture", str(tmp_path / "here"), "--json"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "printed.json").write_text(done.stdout)
    assert read_machine(tmp_path / "here") == read_machine(tmp_path / "printed.json")
    again = subprocess.run([*PROVISION, "capture", str(tmp_path / "here")], capture_output=True, text=True, timeout=60)
    assert again.returncode == 2
    assert "not empty" in again.stderr


@pytest.mark.subprocess
def test_detect_loads_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys; from provisioner.cli.app import _run; _run(['detect']); "
        "print([name for name in ('rich', 'requests', 'rattler', 'conda_lock', 'psutil', 'elftools', 'msgspec') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_detect_costs_little_beside_the_start_of_any_click_program() -> None:
    """In CPU time and as a ratio: this says something on a busy machine too. (0.13 s against 0.08 on a quiet one.)"""
    if probe().gpus:
        pytest.skip("this host has a GPU")
    detect, start = [], []
    for _ in range(20):
        detect.append(cpu_seconds([*PROVISION, "detect"]))
        start.append(cpu_seconds([sys.executable, "-c", "import click"]))
    assert statistics.median(detect) <= 2.5 * statistics.median(start)


def cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
