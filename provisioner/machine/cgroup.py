"""CPU and memory limits of control groups, v1 and v2: what a container, a job or a service may use of the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from provisioner.machine.system import System

UNLIMITED_MIB = 2**63 // 2**20 // 2
"""v1 writes "no limit" as 2**63 less a page; nothing above half of that is a limit."""


class Limits(NamedTuple):
    """The tightest limits on the way from the process's group up to the root; None where there is none.

    ``memory_available_mib`` is what the tightest group has left, its page cache counted as free.
    """

    cpus: float | None = None
    memory_mib: int | None = None
    memory_available_mib: int | None = None
    source: str | None = None


class Mount(NamedTuple):
    """A mounted hierarchy: where, which subtree of it (``root``), and the v1 controllers (empty for v2)."""

    point: str
    root: str
    version: int
    controllers: frozenset[str] = frozenset()


def limits(system: System) -> Limits:
    """Return the limits that apply to this process; v1 and v2 may both be mounted, and each may hold some."""
    groups = list(_groups(system.read("/proc/self/cgroup") or ""))
    mounts = list(_mounts(system.read("/proc/self/mountinfo") or ""))
    cpus: list[float] = []
    memory: list[tuple[int, int | None]] = []
    versions: set[int] = set()
    for mount in mounts:
        for directory in _directories(mount, groups):
            quota = _cpu_quota(system, mount, directory)
            bound = _memory_bound(system, mount, directory)
            cpus += [quota] if quota is not None else []
            memory += [bound] if bound is not None else []
            if quota is not None or bound is not None:
                versions.add(mount.version)
    left = [free for _, free in memory if free is not None]
    return Limits(
        cpus=min(cpus, default=None),
        memory_mib=min((limit for limit, _ in memory), default=None),
        memory_available_mib=min(left, default=None),
        source=f"cgroup v{max(versions)}" if versions else None,
    )


def _groups(text: str) -> Iterator[tuple[frozenset[str], str]]:
    """Yield controllers (none for v2) and path of each line ``id:controllers:path`` of /proc/self/cgroup."""
    for line in text.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield frozenset(filter(None, parts[1].split(","))), parts[2]


def _mounts(text: str) -> Iterator[Mount]:
    """Yield the cgroup mounts of /proc/self/mountinfo that have to do with CPUs or memory (proc(5))."""
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:
            continue
        point, root = _unescape(fields[4]), _unescape(fields[3])
        if kind[0] == "cgroup2":
            yield Mount(point, root, 2)
        elif kind[0] == "cgroup" and (mine := frozenset(kind[2].split(",")) & {"cpu", "memory"}):
            yield Mount(point, root, 1, mine)


def _unescape(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _directories(mount: Mount, groups: list[tuple[frozenset[str], str]]) -> Iterator[str]:
    """Yield the process's directory in a hierarchy and its parents, up to the mount point.

    In a container the path may be the host's while only the container's subtree is mounted: the mount's root is taken
    off, and directories that are not there simply hold no limits.
    """
    for controllers, path in groups:
        matches = not controllers if mount.version == 2 else bool(controllers & mount.controllers)
        if not matches:
            continue
        inside = os.path.relpath(path, mount.root) if path.startswith(mount.root) else path.lstrip("/")
        parts = [part for part in inside.split("/") if part not in ("", ".", "..")][:64]
        for depth in range(len(parts), -1, -1):
            yield "/".join((mount.point, *parts[:depth]))


def _cpu_quota(system: System, mount: Mount, directory: str) -> float | None:
    if mount.version == 2:
        quota, _, period = (system.read(f"{directory}/cpu.max") or "").partition(" ")
    elif "cpu" in mount.controllers:
        quota = system.read(f"{directory}/cpu.cfs_quota_us") or ""
        period = system.read(f"{directory}/cpu.cfs_period_us") or ""
    else:
        return None
    share, of = _number(quota), _number(period)
    return share / of if share and of else None


def _memory_bound(system: System, mount: Mount, directory: str) -> tuple[int, int | None] | None:
    """Return a group's limit and what is left of it, both MiB; above ``memory.high`` the kernel slows a group down to reclaim."""
    bounds: tuple[str, ...]
    if mount.version == 2:
        bounds, usage, cached = ("memory.max", "memory.high"), "memory.current", "inactive_file"
    elif "memory" in mount.controllers:
        bounds, usage, cached = ("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"
    else:
        return None
    known = [number for name in bounds if (number := _number(system.read(f"{directory}/{name}"))) is not None]
    limit = min(known, default=None)
    if limit is None or limit // 2**20 >= UNLIMITED_MIB:
        return None
    used = _number(system.read(f"{directory}/{usage}"))
    if used is None:
        return limit // 2**20, None
    match = re.search(rf"^{cached} (\d{{1,18}})$", system.read(f"{directory}/memory.stat") or "", re.MULTILINE)
    cache = int(match[1]) if match else 0
    return limit // 2**20, max(0, limit - max(0, used - cache)) // 2**20


def _number(text: str | None) -> int | None:
    """Return a non-negative number; None for ``max``, ``-1`` (no limit in v1) and anything else."""
    digits = (text or "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
