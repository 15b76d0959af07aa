"""The environments on disk: names that point at generations, and generations that exist whole or not at all.

A prefix cannot be moved once installed, so each creation is a *generation* with a short path of its own, and ``envs/NAME`` is a
symlink that is switched when the generation is complete. A generation without manifest whose maker is gone is swept away.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from provisioner import paths, progress
from provisioner.environments.manifest import FOLDER, Manifest, manifest_path, read_manifest, write_manifest
from provisioner.errors import Busy, ProvisionError, UsageError


@dataclass(frozen=True, slots=True)
class Environment:
    """A complete environment: its name, its prefix (the generation's real path) and its manifest."""

    name: str
    prefix: Path
    manifest: Manifest

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.prefix / "bin" / "python"


def find(name: str) -> Environment:
    """Return the environment called ``name``. Raise `UsageError` naming the ones there are."""
    link = paths.envs_dir() / name
    if not link.is_symlink() and not link.exists():
        known = [environment.name for environment in all_environments()]
        hints = [f"there is: {', '.join(known)}"] if known else []
        raise UsageError(
            f"there is no environment {name!r}", hints=[*hints, f"make it: provision create {name}"], code="no-environment"
        )
    prefix = link.resolve()
    return Environment(name, prefix, read_manifest(prefix))


def exists(name: str) -> bool:
    """Say whether anything is called ``name``, whole or broken."""
    link = paths.envs_dir() / name
    return link.is_symlink() or link.exists()


def all_environments() -> list[Environment]:
    """Return the readable environments, by name."""
    found = []
    folder = paths.envs_dir()
    for link in sorted(folder.iterdir()) if folder.is_dir() else []:
        with suppress(ProvisionError):
            if link.is_symlink():
                found.append(Environment(link.name, link.resolve(), read_manifest(link.resolve())))
    return found


@contextmanager
def held(name: str) -> Iterator[None]:
    """Hold the name for writing. Raise `Busy` at once when another process holds it."""
    import filelock

    path = paths.data_dir() / "locks" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise Busy(
            f"another provision is working on {name!r}",
            hints=["wait for it, or see which: `ps -ef | grep provision`"],
        ) from error
    try:
        yield
    finally:
        lock.release()


@dataclass(slots=True)
class Generation:
    """A prefix in the making. Until `commit`, nothing points at it."""

    name: str
    prefix: Path
    committed: bool = False

    @property
    def id(self) -> str:
        """Its short identifier, the last part of its path."""
        return self.prefix.name

    def commit(self, manifest: Manifest) -> Environment:
        """Write the manifest, switch the name to this generation, and return the environment."""
        write_manifest(self.prefix, manifest)
        _owner_path(self.prefix).unlink(missing_ok=True)
        paths.replace_symlink(paths.envs_dir() / self.name, self.prefix)
        self.committed = True
        return Environment(self.name, self.prefix, manifest)


@contextmanager
def new_generation(name: str) -> Iterator[Generation]:
    """Yield a fresh generation; unless it is committed, it is removed on the way out, whatever happened."""
    generation = Generation(name, paths.generations_dir() / secrets.token_hex(4))
    try:
        (generation.prefix / FOLDER).mkdir(parents=True)
        paths.write_atomic(_owner_path(generation.prefix), json.dumps({"pid": os.getpid(), "started": _started(os.getpid())}))
        yield generation
    finally:
        if not generation.committed:
            progress.note("removing what is half-made …")  # gigabytes: on a slow disk this takes a while
            delete_prefix(generation.prefix)


def sweep() -> list[Path]:
    """Delete generations that were left half-made by a killed process; return their paths."""
    swept = []
    folder = paths.generations_dir()
    for prefix in folder.iterdir() if folder.is_dir() else []:
        if not manifest_path(prefix).exists() and not _owner_lives(prefix):
            delete_prefix(prefix)
            swept.append(prefix)
    return swept


def delete_prefix(prefix: Path) -> None:
    """Delete a prefix; its manifest goes first, so that an interrupted deletion leaves what `sweep` takes."""
    with suppress(OSError):
        manifest_path(prefix).unlink()
    shutil.rmtree(prefix, ignore_errors=True)


def users(prefix: Path) -> list[int]:
    """Return the process ids of live processes that run from ``prefix`` (as far as they are visible to us)."""
    import psutil

    marks = f"{prefix}/"
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = [*process.cmdline()[:1], process.exe()]
            if any(word.startswith(marks) for word in words) or marks in Path(f"/proc/{process.pid}/maps").read_text():
                found.append(process.pid)
    return found


def remove(name: str) -> None:
    """Remove an environment and its previous generation. Raise `Busy` when processes run from it."""
    with held(name):
        environment = find(name)
        prefixes = [environment.prefix, *_previous(environment)]
        for prefix in prefixes:
            if pids := users(prefix):
                raise Busy(
                    f"{name!r} is in use by process {', '.join(map(str, pids))}",
                    hints=[f"end it first: kill {' '.join(map(str, pids))}"],
                    code="in-use",
                )
        (paths.envs_dir() / name).unlink()
        for prefix in prefixes:
            delete_prefix(prefix)


def prune(environment: Environment) -> None:
    """Delete generations of this name older than the previous one, except those with live processes."""
    keep = {environment.prefix, *_previous(environment)}
    folder = paths.generations_dir()
    for prefix in folder.iterdir() if folder.is_dir() else []:
        if prefix in keep:
            continue
        with suppress(ProvisionError):
            if read_manifest(prefix).name == environment.name and not users(prefix):
                delete_prefix(prefix)


def rollback(name: str) -> Environment:
    """Point ``name`` at its previous generation and return that. Raise `UsageError` when there is none."""
    with held(name):
        current = find(name)
        previous = _previous(current)
        if not previous:
            raise UsageError(
                f"{name!r} has no previous generation", hints=["`provision list` shows the environments"], code="no-previous"
            )
        manifest = read_manifest(previous[0])
        paths.replace_symlink(paths.envs_dir() / name, previous[0])
        return Environment(name, previous[0], manifest)


def _previous(environment: Environment) -> list[Path]:
    prefix = paths.generations_dir() / (environment.manifest.previous or "-")
    return [prefix] if manifest_path(prefix).exists() else []


def _owner_path(prefix: Path) -> Path:
    return prefix / FOLDER / "owner.json"


def _owner_lives(prefix: Path) -> bool:
    """Say whether the process that makes ``prefix`` still runs; a prefix a few seconds old counts as owned."""
    try:
        owner = json.loads(_owner_path(prefix).read_text())
    except (OSError, ValueError):
        with suppress(OSError):
            return time.time() - prefix.stat().st_mtime < 10
        return False
    return bool(_started(int(owner["pid"])) == owner["started"])


def _started(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, None when there is none such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
