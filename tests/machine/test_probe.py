from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from provisioner.machine.nvml import NvmlReading
from provisioner.machine.probe import probe, probe_system
from provisioner.machine.system import Kernel
from provisioner.process import Result


class Nothing:
    """A system on which nothing is to be found."""

    environ: Mapping[str, str] = {}

    def kernel(self) -> Kernel:
        return Kernel()

    def read(self, path: str) -> str | None:
        return None

    def exists(self, path: str) -> bool:
        return False

    def glob(self, directory: str, pattern: str) -> tuple[str, ...]:
        return ()

    def realpath(self, path: str) -> str:
        return path

    def search(self, path: str, pattern: bytes) -> str | None:
        return None

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        return Result(tuple(argv), None, "", "no such program", 0.0)

    def nvml(self) -> NvmlReading:
        return NvmlReading(error="library not found")


class Raising(Nothing):
    """A system whose every answer is an exception."""

    def kernel(self) -> NoReturn:
        raise RuntimeError("kernel")

    def read(self, path: str) -> NoReturn:
        raise MemoryError(path)

    def exists(self, path: str) -> NoReturn:
        raise ValueError(path)

    def nvml(self) -> NoReturn:
        raise OSError("nvml")


class Hanging(Nothing):
    """A system whose NVML and whose /proc never answer."""

    def read(self, path: str) -> str | None:
        if path.startswith("/proc/driver"):
            time.sleep(30)
        return None

    def nvml(self) -> NvmlReading:
        time.sleep(30)
        return NvmlReading()


def test_a_machine_without_any_source_has_no_facts_and_no_faults() -> None:
    machine = probe_system(Nothing())
    assert machine.gpus == ()
    assert machine.faults == ()
    assert machine.origins == {}


def test_a_probe_that_fails_is_told_and_the_next_ones_are_asked() -> None:
    machine = probe_system(Raising())
    assert {fault.code for fault in machine.faults} == {"probe-failed"}


def test_a_probe_that_hangs_is_left_behind_within_its_limit_and_told() -> None:
    started = time.monotonic()
    machine = probe_system(Hanging(), seconds=0.2)
    assert time.monotonic() - started < 5
    assert [fault.code for fault in machine.faults] == ["probe-hangs", "probe-hangs"]
    assert "nvml" in machine.faults[0].detail


def test_this_host_is_probed_without_starting_a_program_for_its_gpus() -> None:
    machine = probe()  # any program started here raises: see tests/conftest.py
    assert machine.platform.system == "linux"
    assert machine.resources.cpus
    assert machine.resources.memory_mib
    assert not [fault for fault in machine.faults if "nvidia" in fault.detail.lower() and fault.code == "probe-failed"]
