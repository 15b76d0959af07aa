"""Making a bundle: sizes asked, space checked, files fetched side by side, manifest written last, all in one tar if asked for.

What is there already with the right hash is kept, so an interrupted bundle continues where it stopped, and a bundle for a newer lock
fetches only what is new.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tarfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from provisioner import __version__, codec, download, paths, progress
from provisioner.environments.bundle import FOLDERS, MANIFEST, BundledFile, BundleManifest, is_archive, layout, needs
from provisioner.environments.locked import Locked, read_locked
from provisioner.errors import NoRoute, SourceUnreachable, UsageError
from provisioner.exclusive import exclusive
from provisioner.locking.targets import conda_platform
from provisioner.locking.values import SOURCE, LockedPackage
from provisioner.machine.facts import Machine, Platform
from provisioner.parallel_downloads import Wanted, fetch_all, side_by_side

MIB = 2**20

ASKING = 24
"""Sizes asked for at the same time: each answer is a few bytes, and the waiting is all of the cost."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What making a bundle costs: number of files, bytes in all, bytes still to fetch, and files whose size no server tells."""

    files: int
    bytes: int
    to_fetch: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Order:
    """A bundle to make: from which lock, to which place, and the files by their path in it."""

    lock_path: Path
    output: Path
    locked: Locked
    files: Mapping[str, LockedPackage]

    @property
    def folder(self) -> Path:
        """Where the files are gathered: the bundle itself, or beside the archive until that is complete."""
        return self.output.with_name(f".{self.output.name}.parts") if is_archive(self.output) else self.output


def order(lock_path: Path, output: Path, processor: str | None = None) -> Order:
    """Return the bundle to make: the lock's part for a ``processor``, this host's where None is given.

    Raise `UsageError` when the lock cannot be bundled or the place is taken by something else.
    """
    locked = read_locked(lock_path, Machine(platform=Platform(machine=processor)) if processor else None)
    if processor and locked.lock.platform != conda_platform(processor):
        raise UsageError(
            f"{lock_path} has nothing for {conda_platform(processor)}",
            why=f"it is for {locked.lock.platform}",
            hints=[f"lock for that as well: provision lock --platform {conda_platform(processor)} …", "or leave --platform away"],
            code="lock-lacks-target",
        )
    made = Order(lock_path, output.absolute(), locked, layout(locked.needed))
    for package in made.files.values():
        if package.manager == "pip" and package.category != SOURCE and not package.filename.endswith(".whl"):
            raise UsageError(
                f"{package.filename} is a source distribution, and the lock does not say what building it needs",
                hints=["lock a version of it that has a wheel"],
                code="sdist-in-lock",
            )
    if made.folder.exists():
        _check_ours(made.folder)
    return made


def _check_ours(folder: Path) -> None:
    """Raise `UsageError` when ``folder`` holds anything that no bundle does, so that nobody's files get mixed up with ours."""
    known = {MANIFEST, *FOLDERS, "conda-lock.yml", "pixi.lock"}
    strange = sorted(path.name for path in folder.iterdir() if path.name not in known) if folder.is_dir() else [folder.name]
    if strange:
        raise UsageError(
            f"{folder} is not empty and not a bundle (it holds {', '.join(strange[:3])})",
            hints=["name a new folder, or a file: -o FILE.tar"],
            code="not-a-bundle",
        )


def forecast(made: Order) -> Forecast:
    """Return what `make_bundle` would fetch now; sizes that the lock does not hold are asked for. Raise `SourceUnreachable`."""
    sizes = _sizes(made)
    known = {path: size for path, size in sizes.items() if size is not None}
    there = {path for path in made.files if _is_there(made, path, known.get(path))}
    return Forecast(
        files=len(made.files),
        bytes=sum(known.values()),
        to_fetch=sum(size for path, size in known.items() if path not in there),
        unknown=len(sizes) - len(known),
    )


def _is_there(made: Order, path: str, size: int | None) -> bool:
    place = made.folder / path
    return place.is_file() and (size is None or place.stat().st_size == size)


def _sizes(made: Order) -> dict[str, int | None]:
    sizes: dict[str, int | None] = {path: package.size for path, package in made.files.items()}

    def ask(path: str) -> None:
        place = made.folder / path
        sizes[path] = place.stat().st_size if place.is_file() else download.size_of(made.files[path].url)
        task.advance()

    open_ones = [path for path, size in sizes.items() if size is None]
    with progress.task("asking for sizes", total=len(open_ones), unit="files") as task:
        side_by_side(ask, open_ones, workers=ASKING)
    return sizes


def check_space(made: Order, cost: Forecast) -> None:
    """Raise `NoRoute` when the disk lacks the room; an archive is written beside its gathered files and needs it twice."""
    needed = cost.to_fetch + (cost.bytes if is_archive(made.output) else 0)
    place = next(parent for parent in (made.folder, *made.folder.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if free < needed:
        twice = f"; a folder needs {math.ceil(cost.to_fetch / MIB)} MiB only" if is_archive(made.output) else ""
        raise NoRoute(
            f"too little disk space for the bundle: {free // MIB} MiB free at {place}, {math.ceil(needed / MIB)} MiB needed{twice}",
            hints=["choose another place with -o"],
            code="disk-or-tmp-full",
        )


def make_bundle(made: Order) -> BundleManifest:
    """Make the bundle and return its manifest; complete, or not there: the manifest comes last.

    Raise `SourceUnreachable` (run it again: what arrived is kept), `IntegrityError` for a file that is not the locked one, `NoRoute`
    when the disk is too small, `Busy` when another process makes it.
    """
    with _held(made.folder):
        _take_from_old_archive(made)
        cost = forecast(made)
        check_space(made, cost)
        made.folder.mkdir(parents=True, exist_ok=True)
        before = _listed(made.folder)
        text = made.lock_path.read_bytes()
        (made.folder / MANIFEST).unlink(missing_ok=True)
        paths.write_atomic(made.folder / _lock_name(made), text)
        _fetch(made, cost)
        manifest = _manifest(made, text)
        for path in before - {file.path for file in manifest.files}:
            (made.folder / path).unlink(missing_ok=True)
        paths.write_atomic(made.folder / MANIFEST, codec.to_json(manifest))
        if is_archive(made.output):
            pack(made.folder, manifest, made.output)
            shutil.rmtree(made.folder)
    return manifest


def _take_from_old_archive(made: Order) -> None:
    """Put what an archive of that name holds already where it is looked for; what is damaged or another's is fetched all the same."""
    if not is_archive(made.output) or not made.output.is_file() or made.folder.exists():
        return
    with suppress(tarfile.TarError), tarfile.open(made.output, "r:") as old:
        for member in old:
            content = old.extractfile(member) if member.name in made.files and member.isfile() else None
            if content is not None:
                place = made.folder / member.name
                place.parent.mkdir(parents=True, exist_ok=True)
                with content, place.open("wb") as file:
                    shutil.copyfileobj(content, file)


def _fetch(made: Order, cost: Forecast) -> None:
    wanted = [Wanted(item.url, made.folder / path, item.sha256, item.size) for path, item in made.files.items()]
    try:
        fetch_all(wanted, label=f"fetching {len(wanted)} files", total=cost.bytes if not cost.unknown else None)
    except SourceUnreachable as error:
        hint = "run the same command again: what was fetched is kept"
        raise SourceUnreachable(error.what, why=error.why, hints=[hint, *error.hints], code=error.code) from error


def _listed(folder: Path) -> set[str]:
    """Return the files of a bundle that lies there already, complete and for another lock perhaps."""
    return {path.relative_to(folder).as_posix() for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()}


def _lock_name(made: Order) -> str:
    return "pixi.lock" if made.locked.made_by == "pixi" else "conda-lock.yml"


def _manifest(made: Order, text: bytes) -> BundleManifest:
    files = [
        BundledFile(path, download.redact(package.url), package.sha256, (made.folder / path).stat().st_size)
        for path, package in made.files.items()
    ]
    return BundleManifest(
        lock=_lock_name(made),
        lock_sha256=hashlib.sha256(text).hexdigest(),
        platform=made.locked.lock.platform,
        backend=made.locked.plan.backend,
        python=made.locked.plan.python,
        files=tuple(files),
        needs=tuple(needs(made.locked)),
        provision=__version__,
    )


def pack(folder: Path, manifest: BundleManifest, archive: Path) -> None:
    """Write the bundle in ``folder`` as one tar file: members in a fixed order, without owners and times; whole or not at all."""
    partial = archive.with_name(f".{archive.name}.partial")
    with progress.task(f"writing {archive.name}", total=manifest.size, unit="B") as task, partial.open("wb") as stream:
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as bundle:
            for path in (MANIFEST, manifest.lock, *(file.path for file in manifest.files)):
                member = tarfile.TarInfo(path)
                member.size, member.mode = (folder / path).stat().st_size, 0o644
                with (folder / path).open("rb") as file:
                    bundle.addfile(member, file)
                task.advance(member.size, detail=path)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(partial, archive)


def _held(folder: Path) -> AbstractContextManager[None]:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return exclusive(paths.data_dir() / "locks" / f"bundle-{name}.lock", f"making the bundle {folder}", wait=0)
