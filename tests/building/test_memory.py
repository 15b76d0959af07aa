"""The tightest limit counts: the machine's memory and CPUs, or what the control groups leave (tests/machine/test_cgroup.py)."""

from __future__ import annotations

from pathlib import Path

from provisioner.building.memory import MIB, Capacity, read_capacity
from provisioner.machine.capture import ReplaySystem

MEMINFO = "MemTotal: 64000000 kB\nMemAvailable: 2048000 kB\n"
V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"


def system_with(root: Path, files: dict[str, str]) -> ReplaySystem:
    for name, text in {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/job\n", "proc/self/mountinfo": V2, **files}.items():
        (root / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "root" / name).write_text(text)
    return ReplaySystem(root)


def test_a_containers_limits_are_kept(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/job"
    files = {
        f"{group}/memory.max": f"{800 * MIB}\n",
        f"{group}/memory.current": f"{500 * MIB}\n",
        f"{group}/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
        f"{group}/cpu.max": "350000 100000\n",
    }
    assert read_capacity(system_with(tmp_path, files)) == Capacity(available_mib=400, cpus=3)


def test_without_a_limit_the_machines_own_memory_counts(tmp_path: Path) -> None:
    assert read_capacity(system_with(tmp_path, {})).available_mib == 2000


def test_this_machine_has_memory_and_a_cpu() -> None:
    import psutil

    found = read_capacity()
    assert 0 < found.available_mib <= psutil.virtual_memory().total // MIB
    assert found.cpus >= 1


def test_some_memory_is_left_for_everything_else() -> None:
    assert Capacity(10_000).budget_mib == 9200
    assert Capacity(1000).budget_mib == 488
    assert Capacity(100).budget_mib == 0
