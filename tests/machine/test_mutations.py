"""Whatever a source says, `detect` neither raises nor invents: real and constructed outputs, changed at random."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.codec import from_json, to_json
from provisioner.machine.capture import ReplaySystem
from provisioner.machine.facts import Machine
from provisioner.machine.nvml import NvmlReading
from provisioner.machine.partial import merge
from provisioner.machine.probe import probes
from provisioner.process import Result

FOLDERS = sorted(path for path in (Path(__file__).resolve().parents[1] / "machines").iterdir() if path.is_dir())
NOISE = [
    "[N/A]",
    "ERR!",
    "\0",
    "\x1b[31m",
    "：",
    "，",
    "\r\n",
    "٣",
    "9" * 400,
    "-1",
    "é",
    "\ufffd",
    "nan",
    "|",
    ",",
    '"',
    "\\",
    "../..",
    "%s",
    "{}",
]


class Mutated(ReplaySystem):
    """A captured machine whose answers are changed at random, each with probability one in three."""

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder)
        self._random = random.Random(seed)
        self.environ = {name: self._change(value) for name, value in self.environ.items()}

    def _change(self, text: str) -> str:
        chance = self._random
        if chance.random() > 0.33:
            return text
        for _ in range(chance.randint(1, 4)):
            text = chance.choice(CHANGES)(text, chance)
        return text

    def read(self, path: str) -> str | None:
        text = super().read(path)
        return None if text is None else self._change(text)

    def exists(self, path: str) -> bool:
        return super().exists(path) if self._random.random() < 0.95 else self._random.random() < 0.5

    def search(self, path: str, pattern: bytes) -> str | None:
        found = super().search(path, pattern)
        return found if self._random.random() < 0.8 else None

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        result = super().run(argv, timeout=timeout)
        return replace(
            result,
            out=self._change(result.out),
            err=self._change(result.err),
            code=self._random.choice((result.code, 0, 9, None)),
        )

    def nvml(self) -> NvmlReading:
        reading = super().nvml()
        if self._random.random() < 0.4:
            devices = tuple(self._device(device) for device in reading.devices)
            return replace(
                reading,
                driver=self._random.choice((None, "", "550", "\0")),
                cuda=self._random.choice((None, -1, 12040, 10**12)),
                devices=devices,
            )
        return reading

    def _device(self, device: Any) -> Any:
        chance = self._random
        changed = (
            replace(device, name=chance.choice((None, "", self._change(device.name or "")))) if chance.random() < 0.5 else device
        )
        numbers = {
            "memory_bytes": chance.choice((None, 0, -5, 2**64)),
            "capability": chance.choice((None, (0, 0), (-1, 3), (10**9, 1))),
        }
        return replace(changed, **numbers) if chance.random() < 0.5 else changed


def _cut(text: str, chance: random.Random) -> str:
    return text[: chance.randint(0, len(text))]


def _drop(text: str, chance: random.Random) -> str:
    start = chance.randint(0, len(text))
    return text[:start] + text[start + chance.randint(1, 40) :]


def _insert(text: str, chance: random.Random) -> str:
    place = chance.randint(0, len(text))
    return text[:place] + chance.choice(NOISE) + text[place:]


def _swap_lines(text: str, chance: random.Random) -> str:
    lines = text.split("\n")
    chance.shuffle(lines)
    return "\n".join(lines)


def _repeat(text: str, chance: random.Random) -> str:
    return (text * chance.randint(2, 5))[:20_000]


def _digits(text: str, chance: random.Random) -> str:
    return "".join(chance.choice("0123456789") if letter.isdigit() and chance.random() < 0.3 else letter for letter in text)


CHANGES: list[Callable[[str, random.Random], str]] = [_cut, _drop, _insert, _swap_lines, _repeat, _digits]


def check(folder: Path, seed: int) -> None:
    """Ask every probe, without the net that `probe` spreads under them, and hold the facts to their form."""
    system = Mutated(folder, seed)
    machine = Machine()
    for source in probes(system.python):
        machine = merge(machine, source.ask(system, machine), source.label)
    assert from_json(to_json(machine), Machine) == machine
    for gpu in machine.gpus:
        assert gpu.capability is None or gpu.capability.major >= 1
        assert gpu.memory_mib is None or 0 < gpu.memory_mib < 2**27
    assert machine.driver.version is None or machine.driver.version[0].isdigit()
    resources = machine.resources
    assert resources.cpus is None or resources.cpus >= 1
    assert resources.memory_mib is None or resources.memory_mib >= 0


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FOLDERS), st.integers(0, 2**32))
def test_changed_outputs_raise_nothing_in_any_probe(folder: Path, seed: int) -> None:
    check(folder, seed)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(FOLDERS), st.integers(0, 2**32))
def test_twenty_thousand_changed_outputs_raise_nothing_in_any_probe(folder: Path, seed: int) -> None:
    check(folder, seed)
