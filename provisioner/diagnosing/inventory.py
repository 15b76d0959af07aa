"""The inventory of one environment, as the stdlib-only script takes it: versions, copies, imports, memory, locks."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from provisioner.codec import from_builtins
from provisioner.errors import UsageError
from provisioner.machine.report.document import find_document
from provisioner.paths import scratch_dir
from provisioner.process import run

INVENTORY_SECONDS = 60.0
"""How long the whole inventory may take; each import in it has a limit of its own."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Which Python this is; ``kind`` is ``venv``, ``conda``, ``conda-base`` or ``system``."""

    executable: str
    version: str
    prefix: str
    base_prefix: str
    kind: str
    path: tuple[str, ...] = ()
    user_site: str | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """One installed copy of a package; ``extensions`` are flash-attn's compiled parts, ``missing`` compiled files that are not there."""

    version: str
    location: str
    metadata: str
    installer: str | None = None
    missing: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AwaitedLock:
    """A file lock that a process waits for; ``holder`` is None where its holder cannot be seen from here."""

    path: str
    holder: int | None = None
    command: str | None = None


@dataclass(frozen=True, slots=True)
class Socket:
    """A TCP socket: its state as the kernel names it, and both addresses."""

    state: str
    local: str
    remote: str


@dataclass(frozen=True, slots=True)
class Waits:
    """What the kernel says about a process that did not return.

    ``call`` is the system call in which its main thread sleeps, ``target`` the file or socket of that call, ``stuck`` its threads in
    state D, ``cpu`` the cores that it and its children kept busy.
    """

    state: str | None = None
    kernel: str | None = None
    call: str | None = None
    target: str | None = None
    stuck: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    locks: tuple[AwaitedLock, ...] = ()
    sockets: tuple[Socket, ...] = ()
    children: tuple[str, ...] = ()
    native: tuple[str, ...] = ()
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One import in a child: ``outcome`` is ``ok``, ``error`` or ``hang``; ``earlier`` is the Python stack some seconds before ``stack``."""

    outcome: str
    seconds: float
    output: str = ""
    stack: str = ""
    earlier: str = ""
    code: int | None = None
    waits: Waits = Waits()


@dataclass(frozen=True, slots=True)
class Disk:
    """Free and total space of a file system, MiB."""

    path: str
    free_mib: int
    total_mib: int
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Cache:
    """A package cache that may be emptied, and the file system that it lies on."""

    path: str
    size_mib: int
    device: int | None = None


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file of an extension build and the processes that build there."""

    path: str
    age_seconds: int
    builders: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that checks may know about an environment; ``packages`` maps a name to its copies, the imported one first."""

    python: Interpreter
    packages: dict[str, tuple[Copy, ...]] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    siblings: tuple[str, ...] = ()
    compilers: dict[str, str | None] = field(default_factory=dict)
    headers: bool = True
    disks: dict[str, Disk] = field(default_factory=dict)
    caches: dict[str, Cache] = field(default_factory=dict)
    locks: tuple[Lock, ...] = ()
    gpus: tuple[dict[str, str], ...] = ()
    processes: tuple[dict[str, str], ...] = ()
    host: dict[str, Any] = field(default_factory=dict)
    imports: dict[str, Attempt] = field(default_factory=dict)
    torch: dict[str, Any] | None = None
    attention: Attempt | None = None
    compile_error: str | None = None
    libcuda: dict[str, str | None] = field(default_factory=dict)
    seconds: float = 0.0

    def version(self, package: str) -> str | None:
        """Return the version of the copy that is imported, None where the package is not installed."""
        copies = self.packages.get(package)
        return copies[0].version if copies else None


def script() -> str:
    """Return the text of the script that takes an inventory in any Python from 3.8 on: one file, with the modules it imports put in."""
    bodies = [_source(name).split("from __future__ import annotations\n", 1)[1].strip() for name in ("waits", "surroundings")]
    head, main = _SISTERS.split(_source("unsloth_diagnose"), maxsplit=1)
    return _SISTERS.sub("", "\n\n\n".join((head.rstrip(), *bodies, main.lstrip())))


_SISTERS = re.compile(r"^(?:from provisioner\.diagnosing\.child\.\w+ import (?:\([^)]*\)|.*)\n)+", re.MULTILINE)


def _source(name: str) -> str:
    return files("provisioner.diagnosing").joinpath(f"child/{name}.py").read_text(encoding="utf-8")


def take(python: Path, *, import_seconds: float = 25.0, environ: Mapping[str, str] | None = None) -> Inventory:
    """Take the inventory of ``python``'s environment. Raise `UsageError` when that interpreter cannot run the script."""
    environment = {**(os.environ if environ is None else environ), "UNSLOTH_DIAGNOSE_SECONDS": str(import_seconds)}
    with scratch_dir("doctor") as folder:
        (folder / "unsloth_diagnose.py").write_text(script(), encoding="utf-8")
        result = run(
            [python, folder / "unsloth_diagnose.py", "--json"],
            timeout=INVENTORY_SECONDS + 2 * import_seconds,
            env=environment,
            cwd=Path(tempfile.gettempdir()),
        )
    found = find_inventory(result.out)
    if found is None:
        raise UsageError(
            f"{python} could not be examined",
            why=(result.err.strip().splitlines() or ["it printed nothing"])[-1],
            hints=["name an environment's own interpreter with --python PATH"],
            code="no-inventory",
        )
    return found


def find_inventory(text: str) -> Inventory | None:
    """Return the inventory in a document that the script printed; None where ``text`` holds none."""
    document = find_document(text)
    if document is None or not isinstance(document.get("environment"), dict):
        return None
    try:
        return from_builtins(document["environment"], Inventory, what="environment")
    except UsageError:
        return None
