"""How much memory a build may take, and who takes it while it runs.

The tightest of two limits counts: what the machine has available, and what the control groups above this process still allow
(v2 and v1). Swap is not part of the budget: compilers that swap take the machine with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MIB = 2**20
RESERVE_SHARE = 0.08
RESERVE_MIN_MIB = 512
"""Left alone for everything else: 8 % of what is available, at least 512 MiB."""

LIMITS = ("memory.max", "memory.high", "memory.limit_in_bytes")
"""The files that hold a group's limit, of version 2 and 1."""


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB that could be taken now, and free swap."""

    available_mib: int
    swap_mib: int

    @property
    def budget_mib(self) -> int:
        """What a build may hold in all."""
        return max(0, self.available_mib - max(RESERVE_MIN_MIB, round(self.available_mib * RESERVE_SHARE)))


def read_memory(*, root: Path = Path("/")) -> Memory:
    """Return the memory that this process may still take, control groups included."""
    import psutil

    limits = [psutil.virtual_memory().available, *_cgroup_rest(root)]
    return Memory(min(limits) // MIB, psutil.swap_memory().free // MIB)


def _cgroup_rest(root: Path) -> Iterator[int]:
    """Yield, for each limited group above this process, the bytes left below its limit; its file cache counts as free."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, usage = root / "sys/fs/cgroup", "memory.current"
            if not (base / "cgroup.controllers").exists():
                base = base / "unified"
        elif "memory" in controllers.split(","):
            base, usage = root / "sys/fs/cgroup/memory", "memory.usage_in_bytes"
        else:
            continue
        group = base / path.lstrip("/")
        for folder in [group, *group.parents]:
            yield from _rest_of(folder, usage)
            if folder == base:
                break


def _rest_of(folder: Path, usage: str) -> Iterator[int]:
    used = _text(folder / usage).strip()
    if not used.isdigit():
        return
    cached = 0
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            cached = int(value)
    for name in LIMITS:
        value = _text(folder / name).strip()
        if value.isdigit() and int(value) < 2**60:  # v1 writes a number near 2**63 for "no limit"
            yield max(0, int(value) - int(used) + cached)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def resident_mib(processes: list[psutil.Process]) -> int:
    """Return what these processes hold together; one that has ended counts nothing."""
    import psutil

    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total // MIB
