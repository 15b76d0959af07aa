"""Each folder of tests/machines is one machine; what its `expected.json` states must come out of the real probes.

`expected.json` is written by hand and names only what it asserts; objects are compared key by key, lists entry by entry.
`fault_codes` is always compared in full. A folder made by `provision capture` also holds `machine.json`, all facts of it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.codec import from_json, to_builtins, to_json
from provisioner.machine.capture import FACTS, read_machine, replay
from provisioner.machine.facts import Machine

MACHINES = Path(__file__).resolve().parents[1] / "machines"
FOLDERS = sorted(path for path in MACHINES.iterdir() if path.is_dir())


def differences(expected: Any, found: Any, place: str = "") -> list[str]:
    """Return where ``found`` differs from what ``expected`` names."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [line for key in expected for line in differences(expected[key], found.get(key), f"{place}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for index, (left, right) in pairs for line in differences(left, right, f"{place}[{index}]")]
    return [] if expected == found else [f"{place}: expected {expected!r}, found {found!r}"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_probes_find_what_is_true_of_the_machine(folder: Path) -> None:
    machine = replay(folder)
    expected = json.loads((folder / "expected.json").read_text()) if (folder / "expected.json").exists() else {}
    found = json.loads(to_json(machine)) | {"fault_codes": [fault.code for fault in machine.faults]}
    assert differences(expected, found) == []
    if (folder / FACTS).exists():
        assert machine == read_machine(folder / FACTS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_folder_says_where_it_comes_from_and_its_name_is_os_gpu_driver(folder: Path) -> None:
    origin = (folder / "origin").read_text()
    assert origin.startswith(("captured", "raw", "constructed")), "say how the machine came to be here"
    if origin.startswith("captured"):
        assert (folder / FACTS).exists()
    else:
        assert (folder / "expected.json").exists()
    driver = folder.name.rpartition("-")[2]
    machine = replay(folder)
    assert driver == (machine.driver.version or "nodriver") or (driver == "nodriver" and not _usable(machine))


def _usable(machine: Machine) -> bool:
    return any(gpu.source in ("nvml", "nvidia-smi") for gpu in machine.gpus)


def test_there_are_at_least_forty_machines() -> None:
    assert len(FOLDERS) >= 40


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_facts_survive_json_and_come_from_a_named_source(folder: Path) -> None:
    machine = replay(folder)
    assert from_json(to_json(machine), Machine) == machine
    for section in ("driver", "platform", "resources", "software"):
        stated = {key for key, value in to_builtins(getattr(machine, section)).items() if value not in (None, {})}
        assert {key for key in stated if f"{section}.{key}" not in machine.origins} == set()
    assert all(gpu.source for gpu in machine.gpus)


def test_a_gpu_name_becomes_no_compute_capability_while_a_source_states_one() -> None:
    for folder in FOLDERS:
        for gpu in replay(folder).gpus:
            if gpu.source in ("nvml", "device-tree"):
                assert gpu.compute_capability is not None, folder.name
