from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.codec import to_json
from provisioner.errors import UsageError
from provisioner.machine.capture import read_machine, replay, write_capture
from provisioner.machine.facts import Machine
from provisioner.machine.probe import probe

MACHINES = Path(__file__).resolve().parents[1] / "machines"


def steady(machine: Machine) -> Machine:
    """Return the machine without what changes from one moment to the next."""
    return replace(machine, resources=replace(machine.resources, memory_available_mib=None, disk_free_mib={}))


@pytest.mark.subprocess
def test_a_capture_of_this_host_holds_its_facts_and_reads_back_to_the_same_machine(tmp_path: Path) -> None:
    machine = write_capture(tmp_path / "here")
    assert steady(machine) == steady(probe()) or Path.home() != Path("/root")  # elsewhere names are taken out
    assert read_machine(tmp_path / "here") == machine
    assert replay(tmp_path / "here") == machine


@pytest.mark.subprocess
def test_a_capture_names_neither_user_nor_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "export" / "mmustermann"
    python = home / ".pyenv" / "versions" / "3.12.1" / "bin" / "python3.12"
    python.parent.mkdir(parents=True)
    python.touch()
    python.with_name("python3").symlink_to(python)
    toolkit = home / "cuda" / "bin"
    toolkit.mkdir(parents=True)
    (toolkit / "nvcc").write_bytes(b"\x7fELF\0Cuda compilation tools, release 12.8, V12.8.93\0")
    (toolkit.parent / "version.json").touch()
    monkeypatch.setenv("CUDA_HOME", str(toolkit.parent))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "mmustermann")
    monkeypatch.setenv("PYENV_ROOT", str(home / ".pyenv"))
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-5fd1cd7c-1f4e-4c2c-8f2e-7d1a2b3c4d5e")
    monkeypatch.setattr(socket, "gethostname", lambda: "kepler42.cluster.example")
    machine = write_capture(tmp_path / "capture")
    everything = "".join(
        f"{path} {path.readlink() if path.is_symlink() else ''} {path.read_text(errors='replace') if path.is_file() else ''}"
        for path in (tmp_path / "capture").rglob("*")
    ).replace(str(tmp_path), "")
    for secret in ("mmustermann", "kepler42", "hf_verysecret", "5fd1cd7c"):
        assert secret not in everything
    assert "/home/user/.pyenv/versions/3.12.1/bin/python3" in [item.path for item in machine.pythons]
    assert (machine.toolkits[0].root, machine.toolkits[0].version) == ("/home/user/cuda", "12.8.93")
    assert machine.faults == ()
    assert machine.cuda_visible_devices == "GPU-00000000-0000-0000-0000-000000000000"
    assert replay(tmp_path / "capture") == machine


def test_a_capture_never_overwrites_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        write_capture(tmp_path)


def test_a_machine_is_read_from_its_json_from_a_document_and_from_a_folder(tmp_path: Path) -> None:
    folder = MACHINES / "ubuntu22.04-rtx3060+a6000-550.54.15"
    machine = replay(folder)
    (tmp_path / "bare.json").write_text(to_json(machine))
    (tmp_path / "document.json").write_text(to_json({"schema": 1, "machine": machine, "plan": None}))
    assert read_machine(tmp_path / "bare.json") == read_machine(tmp_path / "document.json") == read_machine(folder) == machine


def test_a_machine_written_by_hand_may_leave_almost_everything_out(tmp_path: Path) -> None:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"gpus": [{"name": "RTX 4090", "compute_capability": "8.9"}], "software": None}))
    machine = read_machine(path)
    assert machine.gpus[0].compute_capability == "8.9"
    assert machine.software.torch is None


@pytest.mark.parametrize("text", ["", "[]", "{", '{"gpus": 3}', '{"machine": "H100"}', '{"driver": {"version": 550}}'])
def test_a_file_that_is_no_machine_is_refused_with_its_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"wrong\.json"):
        read_machine(path)


def test_a_folder_without_a_capture_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_machine(tmp_path)
    assert "provision capture" in caught.value.hints[0]
