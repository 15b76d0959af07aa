"""A real control group with a memory limit, for tests: version 2 or 1, where this process may make one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Group:
    """A group; a process enters it by writing its id into ``procs``."""

    folder: Path
    events: str

    @property
    def procs(self) -> Path:
        """The file to write a process id into."""
        return self.folder / "cgroup.procs"

    @property
    def oom_kills(self) -> int:
        """How many processes the kernel has killed in it for want of memory."""
        lines = (self.folder / self.events).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def limited(mib: int) -> Iterator[Group | None]:
    """Yield a group limited to ``mib``, None where none can be made (no root, read-only hierarchy)."""
    name = f"provision-test-{os.getpid()}"
    v2 = (_V2 / "cgroup.controllers").is_file()
    folder = (_V2 if v2 else _V1) / name
    try:
        folder.mkdir()
        (folder / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(mib * MIB))
        if v2:
            (folder / "memory.swap.max").write_text("0")
    except OSError:
        if folder.is_dir():
            folder.rmdir()
        yield None
        return
    try:
        yield Group(folder, "memory.events" if v2 else "memory.oom_control")
    finally:
        folder.rmdir()
