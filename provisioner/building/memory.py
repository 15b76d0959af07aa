"""How much memory a build may take, and who takes it while it runs.

The tightest of two limits counts: what the machine has available, and what the control groups above this process still allow
(`provisioner.machine.resources`). Swap is not part of the budget: compilers that swap take the machine with them.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from provisioner.machine import resources
from provisioner.machine.facts import Machine
from provisioner.machine.system import LiveSystem, System

if TYPE_CHECKING:
    import psutil

MIB = 2**20
RESERVE_SHARE = 0.08
RESERVE_MIN_MIB = 512
"""Left alone for everything else: 8 % of what is available, at least 512 MiB."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What could be taken now: MiB of memory, and CPUs (those of the affinity mask and of a container's quota)."""

    available_mib: int
    cpus: int = 1

    @property
    def budget_mib(self) -> int:
        """What a build may hold in all."""
        return max(0, self.available_mib - max(RESERVE_MIN_MIB, round(self.available_mib * RESERVE_SHARE)))


def read_capacity(system: System | None = None) -> Capacity:
    """Return what this process may still take, control groups included; what the system does not tell counts as nothing."""
    found = resources.facts(system or _this_host(), Machine()).resources
    return Capacity(found.memory_available_mib or 0, found.cpus or 1)


@cache
def _this_host() -> LiveSystem:
    """Return the host, whose disks are not asked again each time that memory is."""
    return LiveSystem()


def resident_mib(processes: list[psutil.Process]) -> int:
    """Return what these processes hold together; one that has ended counts nothing."""
    import psutil

    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total // MIB
