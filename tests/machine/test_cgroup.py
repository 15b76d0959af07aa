from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.machine.capture import ReplaySystem
from provisioner.machine.cgroup import Limits, limits
from provisioner.machine.wsl import wsl_of_kernel

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
GIB = 2**30


def system_with(root: Path, files: dict[str, str]) -> ReplaySystem:
    for path, text in files.items():
        place = root / "root" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return ReplaySystem(root)


def test_the_tightest_limit_on_the_way_to_the_root_counts(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": "0::/user.slice/job\n",
        "/proc/self/mountinfo": V2_MOUNT,
        "/sys/fs/cgroup/user.slice/memory.max": f"{8 * GIB}\n",
        "/sys/fs/cgroup/user.slice/memory.current": f"{7 * GIB}\n",
        "/sys/fs/cgroup/user.slice/job/memory.max": f"{32 * GIB}\n",
        "/sys/fs/cgroup/user.slice/job/memory.current": f"{1 * GIB}\n",
        "/sys/fs/cgroup/user.slice/job/cpu.max": "250000 100000\n",
        "/sys/fs/cgroup/user.slice/cpu.max": "max 100000\n",
    }
    assert limits(system_with(tmp_path, files)) == Limits(2.5, 8192, 1024, "cgroup v2")


def test_a_group_is_slowed_down_above_memory_high_so_that_is_its_limit(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": "0::/job\n",
        "/proc/self/mountinfo": V2_MOUNT,
        "/sys/fs/cgroup/job/memory.max": "max\n",
        "/sys/fs/cgroup/job/memory.high": f"{4 * GIB}\n",
        "/sys/fs/cgroup/job/memory.current": f"{1 * GIB}\n",
    }
    assert limits(system_with(tmp_path, files)) == Limits(None, 4096, 3072, "cgroup v2")


def test_no_limit_is_none_in_both_versions(tmp_path: Path) -> None:
    v1 = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
    files = {
        "/proc/self/cgroup": "4:memory:/\n0::/\n",
        "/proc/self/mountinfo": V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ") + v1,
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "/sys/fs/cgroup/unified/memory.max": "max\n",
    }
    assert limits(system_with(tmp_path, files)) == Limits()


def test_a_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    files = {
        "/proc/self/cgroup": "0::/\n",
        "/proc/self/mountinfo": "31 23 0:28 / /run/my\\040groups rw - cgroup2 cgroup rw\n",
        "/run/my groups/memory.max": f"{GIB}\n",
    }
    assert limits(system_with(tmp_path, files)).memory_mib == 1024


@given(groups=st.text(max_size=80), mounts=st.text(alphabet="0 :/-cgroup2,memory\n\\137", max_size=160))
def test_nothing_that_the_kernel_could_write_raises(tmp_path_factory: pytest.TempPathFactory, groups: str, mounts: str) -> None:
    files = {"/proc/self/cgroup": groups, "/proc/self/mountinfo": mounts + V2_MOUNT}
    limits(_Texts(files))


class _Texts(ReplaySystem):
    def __init__(self, files: dict[str, str]) -> None:
        super().__init__(Path("/nonexistent"))
        self._texts = files

    def read(self, path: str) -> str | None:
        return self._texts.get(path)


@pytest.mark.parametrize(
    ("release", "wsl"),
    [
        ("4.4.0-19041-Microsoft", "1"),
        ("4.19.128-microsoft-standard", "2"),
        ("5.15.153.1-microsoft-standard-WSL2", "2"),
        ("6.6.87.2-microsoft-standard-WSL2+", "2"),
        ("6.8.0-45-generic", "no"),
        ("5.15.0-1064-azure", "no"),
        ("", "no"),
    ],
)
def test_the_kernel_tells_which_wsl_it_is(release: str, wsl: str) -> None:
    assert wsl_of_kernel(release) == wsl
