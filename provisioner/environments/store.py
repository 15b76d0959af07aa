"""The environments on disk: names that point at generations, and generations that exist whole or not at all.

A prefix cannot be moved once installed, so each creation is a *generation* with a short path of its own, and ``envs/NAME`` is a
symlink that is switched when the generation is complete. A generation without manifest whose maker is gone is swept away.
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner import paths, progress
from provisioner.environments.manifest import FOLDER, Manifest, manifest_path, read_manifest, write_manifest
from provisioner.errors import Busy, ProvisionError, UsageError
from provisioner.exclusive import exclusive


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


def link_of(name: str) -> Path:
    """Return the absolute path of a name's link, whether or not it is there."""
    return paths.envs_dir().absolute() / name


def find(name: str) -> Environment:
    """Return the environment called ``name``. Raise `UsageError` naming the ones there are, and for one that is broken what helps."""
    prefix = existing_link(name).resolve()
    try:
        return Environment(name, prefix, read_manifest(prefix))
    except ProvisionError as error:
        raise UsageError(
            f"the environment {name!r} is broken: {error.what}",
            why=None if prefix.exists() else f"{prefix}, which it stands for, is gone",
            hints=[f"make it anew: provision create {name} --replace", f"or remove what is left: provision remove {name}"],
            code="broken-environment",
        ) from error


def environment_at(prefix: Path) -> Environment | None:
    """Return the environment in ``prefix``, under that folder's name, where it was made here; None for any other."""
    try:
        return Environment(prefix.name, prefix, read_manifest(prefix))
    except (ProvisionError, OSError):
        return None


def existing_link(name: str) -> Path:
    """Return a name's link, whether what it stands for is whole or broken. Raise `UsageError` naming the environments there are."""
    if not exists(name):
        known = [environment.name for environment in all_environments()]
        hints = [f"there is: {', '.join(known)}"] if known else []
        raise UsageError(
            f"there is no environment {name!r}", hints=[*hints, f"make it: provision create {name}"], code="no-environment"
        )
    return link_of(name)


def current(name: str) -> str | None:
    """Return the identifier of the generation that ``name`` stands for, None where there is none or it is broken."""
    try:
        return find(name).prefix.name
    except ProvisionError:
        return None


def exists(name: str) -> bool:
    """Say whether anything is called ``name``, whole or broken."""
    link = link_of(name)
    return link.is_symlink() or link.exists()


def survey() -> tuple[list[Environment], list[str]]:
    """Return the environments by name, and the names of those that cannot be read."""
    found, broken = [], []
    folder = paths.envs_dir()
    for link in sorted(folder.iterdir()) if folder.is_dir() else []:
        if not link.is_symlink():
            continue
        prefix = link.resolve()
        try:
            found.append(Environment(link.name, prefix, read_manifest(prefix)))
        except ProvisionError:
            broken.append(link.name)
    return found, broken


def all_environments() -> list[Environment]:
    """Return the readable environments, by name."""
    return survey()[0]


def held(name: str) -> AbstractContextManager[None]:
    """Hold the name for writing. Raise `Busy` at once when another process holds it."""
    return exclusive(paths.data_dir() / "locks" / f"{name}.lock", f"working on {name!r}", wait=0)


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
        """Write the manifest with the name's link, switch that to this generation, and return the environment."""
        manifest = replace(manifest, link=str(link_of(self.name)))
        write_manifest(self.prefix, manifest)
        _owner_path(self.prefix).unlink(missing_ok=True)
        paths.replace_symlink(link_of(self.name), self.prefix)
        self.committed = True
        return Environment(self.name, self.prefix, manifest)


@contextmanager
def new_generation(name: str) -> Iterator[Generation]:
    """Yield a fresh generation; unless it is committed, it is removed on the way out, whatever happened."""
    generation = Generation(name, paths.generations_dir() / secrets.token_hex(4))
    try:
        (generation.prefix / FOLDER).mkdir(parents=True)
        paths.write_atomic(
            _owner_path(generation.prefix), json.dumps({"pid": os.getpid(), "started": _started(os.getpid()), **_here()})
        )
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
    """Return the process ids of live processes that run from ``prefix`` (as far as they are visible to us).

    They do where their program or a library lies in it, or where they are a Python for which it is the active environment: the program of a
    virtual environment's Python is the host's.
    """
    import psutil

    names = {str(prefix), str(prefix.resolve())}
    marks = tuple(f"{name}/" for name in names)
    ours = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            words = [*process.cmdline()[:1], process.exe()]
            runs = any(word.startswith(marks) for word in words) or _maps(process.pid, marks)
            if runs or (process.pid not in ours and _is_python(words) and names & _active(process.environ())):
                found.append(process.pid)
    return found


def _maps(pid: int, marks: tuple[str, ...]) -> bool:
    text = Path(f"/proc/{pid}/maps").read_text()
    return any(mark in text for mark in marks)


def _is_python(words: list[str]) -> bool:
    return any(Path(word).name.startswith("python") for word in words)


def _active(environ: dict[str, str]) -> set[str]:
    return {environ.get(variable, "") for variable in ("VIRTUAL_ENV", "CONDA_PREFIX")}


def remove(name: str) -> None:
    """Remove an environment, whole or broken, with all its generations. Raise `Busy` when processes run from one."""
    with held(name):
        link = existing_link(name)
        prefixes = _generations(name)
        for prefix in prefixes:
            if pids := users(prefix):
                raise Busy(
                    f"{name!r} is in use by process {', '.join(map(str, pids))}",
                    hints=[f"end it first: kill {' '.join(map(str, pids))}"],
                    code="in-use",
                )
        link.unlink()
        for prefix in prefixes:  # first all manifests: what a kill leaves is then swept
            with suppress(OSError):
                manifest_path(prefix).unlink()
        for prefix in prefixes:
            delete_prefix(prefix)


def prune(environment: Environment) -> None:
    """Delete generations of this environment older than the previous one, except those with live processes."""
    keep = {environment.prefix, *_previous(environment)}
    for prefix in _generations(environment.name):
        if prefix not in keep and not users(prefix):
            delete_prefix(prefix)


def _generations(name: str) -> list[Path]:
    """Return the prefixes of ``name``: what its link stands for, what that replaced, and all others that were made under this link."""
    folder, link = paths.generations_dir(), link_of(name)
    found: dict[Path, None] = {}
    target = link.resolve()
    if target.parent == folder.resolve() and target.is_dir():
        found[folder / target.name] = None
    with suppress(ProvisionError):
        found |= dict.fromkeys(_previous(find(name)))
    for prefix in sorted(folder.iterdir()) if folder.is_dir() else []:
        with suppress(ProvisionError):
            if read_manifest(prefix).link == str(link):
                found[prefix] = None
    return list(found)


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
        paths.replace_symlink(link_of(name), previous[0])
        return Environment(name, previous[0], manifest)


def _previous(environment: Environment) -> list[Path]:
    prefix = paths.generations_dir() / (environment.manifest.previous or "-")
    return [prefix] if manifest_path(prefix).exists() else []


def _owner_path(prefix: Path) -> Path:
    return prefix / FOLDER / "owner.json"


def _owner_lives(prefix: Path) -> bool:
    """Say whether the process that makes ``prefix`` still runs; a prefix a few seconds old counts as owned.

    On another host or in another container, which may share the folder, nobody here can tell: there it counts as alive for a day.
    """
    try:
        owner = json.loads(_owner_path(prefix).read_text())
        age = time.time() - _owner_path(prefix).stat().st_mtime
    except (OSError, ValueError):
        with suppress(OSError):
            return time.time() - prefix.stat().st_mtime < 10
        return False
    if any(owner.get(key, value) != value for key, value in _here().items()):
        return age < FOREIGN_SECONDS
    return bool(_started(int(owner["pid"])) == owner["started"])


FOREIGN_SECONDS = 86_400.0
"""How long a half-made generation of another host's is left alone; making one takes an hour at most."""


def _here() -> dict[str, str]:
    """Return what tells this kernel and this space of process ids from others."""
    found = {"host": platform.node()}
    with suppress(OSError):
        found["boot"] = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        found["processes"] = str(Path("/proc/self/ns/pid").readlink())
    return found


def _started(pid: int) -> str | None:
    """Return the start time of a process in clock ticks since boot, None when there is none such."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
