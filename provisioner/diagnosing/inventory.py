"""The inventory of one environment, as the stdlib-only script takes it: versions, copies, imports, memory, locks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from provisioner.codec import from_builtins
from provisioner.errors import UsageError
from provisioner.machine.report.document import find_document
from provisioner.process import run

INVENTORY_SECONDS = 30.0
"""How long the inventory may take beside the imports."""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """Which Python this is; ``kind`` is ``venv``, ``conda``, ``conda-base`` or ``system``, ``on_path`` what the shell starts.

    ``managed`` says that `provision` made it.
    """

    executable: str
    version: str
    prefix: str
    base_prefix: str
    kind: str
    path: tuple[str, ...] = ()
    user_site: str | None = None
    on_path: str | None = None
    prompt: str | None = None
    managed: bool = False


@dataclass(frozen=True, slots=True)
class Copy:
    """One installed copy of a package.

    ``missing`` are some of the ``missing_count`` files of its record that are not there; ``matches`` the share of them that are as it
    states, known where a package is there twice. ``extensions`` are flash-attn's compiled parts, ``adapter`` the kernels under our
    adapter's functions.
    """

    version: str
    location: str
    metadata: str
    installer: str | None = None
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    matches: float | None = None
    requires: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    adapter: str | None = None


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
    """One import in a child: ``outcome`` is ``ok``, ``error``, ``hang`` or ``not-tried``.

    ``earlier`` is the Python stack some seconds before ``stack``; ``output`` of a hang what it had printed, ``idle`` the seconds for
    which it had neither computed nor read.
    """

    outcome: str
    seconds: float
    output: str = ""
    stack: str = ""
    earlier: str = ""
    code: int | None = None
    waits: Waits = Waits()
    idle: float | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """Free and total space of a file system, MiB; ``free_inodes`` None where it has none to run out of."""

    path: str
    free_mib: int
    total_mib: int
    free_inodes: int | None = None
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
    """Everything that checks may know about an environment.

    ``packages`` maps the names that matter to their copies, the imported one first; ``versions`` all that is installed.
    ``conda_records`` are versions as conda believes them, ``remnants`` what pip left when it was interrupted, ``without_record``
    folders of packages of which no record is left, ``unwritable`` directories by the variable that moves them.
    """

    python: Interpreter
    packages: dict[str, tuple[Copy, ...]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    conda_records: dict[str, str] = field(default_factory=dict)
    remnants: tuple[str, ...] = ()
    without_record: tuple[str, ...] = ()
    unwritable: dict[str, str] = field(default_factory=dict)
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
        return copies[0].version if copies else self.versions.get(package)


def script() -> str:
    """Return the text of the script that takes an inventory in any Python from 3.8 on: one file, with the modules it imports put in."""
    bodies = [_own_imports(_source(name)) for name in ("waits", "surroundings", "packages", "attempts")]
    head, main = _SISTERS.split(_source("unsloth_diagnose"), maxsplit=1)
    return _SISTERS.sub("", "\n\n\n".join((head.rstrip(), *bodies, main.lstrip())))


def _own_imports(source: str) -> str:
    return _SISTERS.sub("", source.split("from __future__ import annotations\n", 1)[1]).strip()


_SISTERS = re.compile(r"^(?:from provisioner\.diagnosing\.child\.\w+ import (?:\([^)]*\)|.*)\n)+", re.MULTILINE)


def _source(name: str) -> str:
    return files("provisioner.diagnosing").joinpath(f"child/{name}.py").read_text(encoding="utf-8")


IMPORT_VARIABLE, IMPORT_SECONDS = "UNSLOTH_DIAGNOSE_SECONDS", 40.0
"""How long the imports may take that are at work, and the variable that says otherwise (child/attempts.py)."""


def take(python: Path, *, import_seconds: float | None = None, activation: Mapping[str, str] | None = None) -> Inventory:
    """Take the inventory of ``python``'s environment, with the variables set that its activation sets.

    Raise `UsageError` when that interpreter cannot run the script.
    """
    given = os.environ.get(IMPORT_VARIABLE, "")
    import_seconds = import_seconds or (float(given) if given.replace(".", "", 1).isdigit() else IMPORT_SECONDS)
    environment = {**os.environ, **(activation or {}), IMPORT_VARIABLE: str(import_seconds)}
    result = run(
        [python, "-", "--json"],
        input_text=script(),  # not by a file: a full disk is what this may have to find
        timeout=INVENTORY_SECONDS + import_seconds,
        env=environment,
        cwd=Path("/"),
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
