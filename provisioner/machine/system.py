"""The seam between the probes and the machine: everything a probe may ask, answered live or from a captured folder.

A probe reads files, looks for programs, runs them and asks NVML only through a `System`. `LiveSystem` is this host;
`provisioner.machine.capture` records what a probe asked and replays it, so a captured machine runs through the same code.
Nothing here raises for what the machine lacks: an absent file is None, a missing program a `Result` without a code.
"""

from __future__ import annotations

import errno
import fnmatch
import mmap
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from provisioner.machine.nvml import NvmlReading
    from provisioner.process import Result

READ_LIMIT = 1024 * 1024
"""Bytes read of a text file; the files that probes read are far smaller."""

MAX_LINKS = 40
"""Symbolic links followed before a path counts as a loop (the kernel's own limit, path_resolution(7))."""

_WILDCARD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class Kernel:
    """What a system call answers rather than a file. ``libc`` is ``CS_GNU_LIBC_VERSION``, e.g. ``glibc 2.36``.

    ``cpus`` are those this process may be scheduled on; ``disk_free_mib`` is the free space by purpose.
    """

    system: str | None = None
    machine: str | None = None
    release: str | None = None
    cpus: int | None = None
    libc: str | None = None
    home: str | None = None
    disk_free_mib: dict[str, int] = field(default_factory=dict)


class System(Protocol):
    """One machine, as the probes see it. Paths are absolute."""

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment variables."""

    def kernel(self) -> Kernel:
        """What system calls say."""

    def read(self, path: str) -> str | None:
        """The text of a file (at most `READ_LIMIT` bytes), None when there is none to be read."""

    def exists(self, path: str) -> bool:
        """Whether a file or directory is there."""

    def glob(self, directory: str, pattern: str) -> tuple[str, ...]:
        """The paths in ``directory`` whose names match the shell pattern, sorted."""

    def realpath(self, path: str) -> str:
        """``path`` with its symbolic links resolved."""

    def search(self, path: str, pattern: bytes) -> str | None:
        """The first group of the first match of a regular expression in a (binary) file.

        A pattern treats NUL and newline alike, because a capture keeps the match with newlines for its NULs.
        """

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        """Run a program, in the C locale, and return what it left."""

    def nvml(self) -> NvmlReading:
        """What the NVIDIA management library answers."""


class Files:
    """The file half of a `System`: the tree under ``root``, in which absolute links start at ``root`` again."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = os.fspath(root)
        self._live = self._root == "/"
        self._listings: dict[str, list[str]] = {}

    def read(self, path: str) -> str | None:
        try:
            with open(self._locate(path), "rb") as file:
                return file.read(READ_LIMIT).decode("utf-8", "replace")
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        try:
            return os.path.exists(self._locate(path))
        except (OSError, ValueError):
            return False

    def glob(self, directory: str, pattern: str) -> tuple[str, ...]:
        names = self._listings.get(directory)
        if names is None:
            names = self._listings[directory] = self._names(directory)
        start = _WILDCARD.split(pattern, 1)[0]  # most directories have no such name: then the pattern need not be compiled
        names = [name for name in names if name.startswith(start)]
        return tuple(os.path.join(directory, name) for name in sorted(fnmatch.filter(names, pattern) if names else ()))

    def _names(self, directory: str) -> list[str]:
        try:
            return os.listdir(self._locate(directory))
        except (OSError, ValueError):
            return []

    def realpath(self, path: str) -> str:
        if self._live:
            return os.path.realpath(path)
        try:
            return "/" + os.path.relpath(self._locate(path), self._root)
        except (OSError, ValueError):
            return path

    def search(self, path: str, pattern: bytes) -> str | None:
        match = self._match(path, pattern)
        return match[1].decode("latin-1") if match else None

    def _match(self, path: str, pattern: bytes) -> tuple[bytes, bytes] | None:
        """Return the whole of the first match and its group."""
        try:
            with (
                open(self._locate(path), "rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            ):
                find = re.match if pattern.startswith(rb"\A") else re.search  # a search tries an anchored pattern at every byte
                match = find(pattern, data)
                return (match[0], match[1]) if match else None
        except (OSError, ValueError):
            return None

    def _locate(self, path: str) -> str:
        """Return where ``path`` lies on this host, its links resolved inside the root. Raise OSError on a loop."""
        if self._live:
            return path
        waiting = path.split("/")[::-1]
        place: list[str] = []
        followed = 0
        while waiting:
            name = waiting.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del place[-1:]
                continue
            here = os.path.join(self._root, *place, name)
            if not os.path.islink(here):
                place.append(name)
                continue
            followed += 1
            if followed > MAX_LINKS:
                raise OSError(errno.ELOOP, "too many links", path)
            target = os.readlink(here)
            if target.startswith("/"):
                place.clear()
            waiting += target.split("/")[::-1]
        return os.path.join(self._root, *place)


class LiveSystem(Files):
    """This host."""

    def __init__(self) -> None:
        super().__init__()
        self.environ: Mapping[str, str] = os.environ
        self._kernel: Kernel | None = None

    def kernel(self) -> Kernel:
        if self._kernel is None:
            self._kernel = self._ask_kernel()
        return self._kernel

    def _ask_kernel(self) -> Kernel:
        names = os.uname()
        return Kernel(
            system=names.sysname.lower(),
            machine=names.machine,
            release=names.release,
            cpus=_usable_cpus(),
            libc=_libc(),
            home=os.path.expanduser("~"),
            disk_free_mib=_disk_free(),
        )

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        from provisioner.process import run

        return run(argv, timeout=timeout, env={**os.environ, "LC_ALL": "C", "LANGUAGE": "C"})

    def nvml(self) -> NvmlReading:
        from provisioner.machine.nvml import read_library

        return read_library()


def path_directories(system: System) -> tuple[str, ...]:
    """Return the directories of ``system``'s PATH, each real one once; relative entries are left out."""
    found: dict[str, str] = {}
    for entry in system.environ.get("PATH", "").split(":"):
        if entry.startswith("/"):
            found.setdefault(system.realpath(entry), entry.rstrip("/") or "/")
    return tuple(found.values())


def which(system: System, name: str) -> str | None:
    """Return the path of the program ``name`` on ``system``'s PATH, None when it is not there."""
    entries = system.environ.get("PATH", "").split(":")
    places = (f"{entry}/{name}" for entry in dict.fromkeys(entries) if entry.startswith("/"))
    return next((place for place in places if system.exists(place)), None)


def home_of(system: System) -> str:
    """Return the user's home directory, ``/root`` where it cannot be told."""
    return system.environ.get("HOME") or system.kernel().home or "/root"


def _usable_cpus() -> int | None:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count()


def _libc() -> str | None:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION")
    except (ValueError, OSError):
        return None


def _disk_free() -> dict[str, int]:
    """Return MiB free for an unprivileged user where environments, caches and temporary files go."""
    from provisioner.paths import cache_dir, envs_dir

    places = {"prefix": envs_dir(), "cache": cache_dir(), "tmp": Path(os.environ.get("TMPDIR") or "/tmp")}
    free = {purpose: _free_mib(place) for purpose, place in places.items()}
    return {purpose: mib for purpose, mib in free.items() if mib is not None}


def _free_mib(path: Path) -> int | None:
    """Return MiB free at ``path``, or at the nearest parent that exists."""
    for place in (path, *path.parents):
        try:
            status = os.statvfs(place)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return status.f_bavail * status.f_frsize // 2**20
    return None
