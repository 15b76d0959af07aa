"""The tightest limit counts: the machine's memory, or what the control groups leave."""

from __future__ import annotations

from pathlib import Path

from provisioner.building.memory import MIB, Memory, read_memory


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_container_limit_of_cgroup_v2_is_kept(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job\n",
            "sys/fs/cgroup/cgroup.controllers": "memory",
            "sys/fs/cgroup/user.slice/job/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/job/memory.current": "0\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{800 * MIB}\n",
            "sys/fs/cgroup/user.slice/memory.current": f"{500 * MIB}\n",
            "sys/fs/cgroup/user.slice/memory.stat": f"anon 1\ninactive_file {100 * MIB}\n",
        },
    )
    assert read_memory(root=root).available_mib == 400


def test_a_container_limit_of_cgroup_v1_is_kept(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": f"{300 * MIB}\n",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": f"{100 * MIB}\n",
        },
    )
    assert read_memory(root=root).available_mib == 200


def test_no_limit_leaves_the_machines_own_memory(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
        },
    )
    import psutil

    assert abs(read_memory(root=root).available_mib - psutil.virtual_memory().available // MIB) < 1024


def test_some_memory_is_left_for_everything_else() -> None:
    assert Memory(10_000, 0).budget_mib == 9200
    assert Memory(1000, 0).budget_mib == 488
    assert Memory(100, 0).budget_mib == 0
