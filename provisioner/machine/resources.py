"""CPUs, memory, swap and free space that this process may use."""

from __future__ import annotations

import re

from provisioner.machine.cgroup import limits
from provisioner.machine.facts import Machine, Resources
from provisioner.machine.system import System

_MEMINFO = re.compile(r"^(MemTotal|MemAvailable|SwapTotal):\s+(\d{1,15}) kB", re.MULTILINE)


def facts(system: System, known: Machine) -> Machine:
    """Return the resources: the machine's own, cut to the control group's limits; a CPU quota is rounded down, at least 1."""
    kernel = system.kernel()
    memory = {match[1]: int(match[2]) // 1024 for match in _MEMINFO.finditer(system.read("/proc/meminfo") or "")}
    group = limits(system)
    quota = max(1, int(group.cpus)) if group.cpus is not None else None
    resources = Resources(
        cpus=_least(kernel.cpus, quota),
        memory_mib=_least(memory.get("MemTotal"), group.memory_mib),
        memory_available_mib=_least(memory.get("MemAvailable"), group.memory_available_mib),
        swap_mib=memory.get("SwapTotal"),
        disk_free_mib=dict(kernel.disk_free_mib),
    )
    origins = {}
    if group.source and quota is not None and resources.cpus == quota:
        origins["resources.cpus"] = group.source
    if group.source and group.memory_mib is not None and resources.memory_mib == group.memory_mib:
        origins["resources.memory_mib"] = group.source
    return Machine(resources=resources, origins=origins)


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value is not None), default=None)
