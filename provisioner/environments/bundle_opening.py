"""Using a bundle: everything in it is checked before anything is made, and while it is open its files are at hand and no network is used."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner import download, paths, progress
from provisioner.environments.bundle import ANEW, MANIFEST, BundledFile, BundleManifest, is_archive, read_manifest_text
from provisioner.environments.locked import Locked, read_locked
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable, UsageError
from provisioner.exclusive import exclusive
from provisioner.locking.targets import conda_platform
from provisioner.machine.facts import Machine
from provisioner.parallel_downloads import side_by_side
from provisioner.planning.estimates import UNPACKED
from provisioner.planning.values import Estimates

MIB = 2**20


@dataclass(frozen=True, slots=True)
class OpenBundle:
    """A checked bundle: where it was given, where its files lie, its manifest, and the lock that it serves."""

    path: Path
    root: Path
    manifest: BundleManifest
    locked: Locked


@contextmanager
def opened(path: Path, lock_path: Path | None = None, machine: Machine | None = None) -> Iterator[OpenBundle]:
    """Yield the bundle at ``path``; in the block the locked files come from it, and nothing touches the network.

    ``lock_path`` names another lock than the bundle's own, which then says what is installed and what its hashes are; a foreign one is
    read for ``machine``. Raise `IntegrityError` when anything is missing, truncated or changed, `UsageError` when there is no bundle.
    """
    if not path.exists():
        raise UsageError(f"there is no bundle {path}", hints=[f"make it: provision bundle LOCK -o {path}"], code="no-bundle")
    path = path.absolute()
    with _unpacked(path) if path.is_file() else _folder(path) as (root, manifest):
        _check_platform(path, manifest, machine)
        locked = read_locked(lock_path or root / manifest.lock, machine)
        used = _files_for(locked, manifest, path, own=lock_path is None)
        tokens = (download.at_hand.set({url: root / file.path for url, file in used.items()}), download.offline.set(True))
        try:
            yield OpenBundle(path, root, manifest, _with_disk(locked, manifest))
        finally:
            download.at_hand.reset(tokens[0])
            download.offline.reset(tokens[1])


def _check_platform(path: Path, manifest: BundleManifest, machine: Machine | None) -> None:
    """Raise `UsageError` when the bundle was made for another platform than the machine's."""
    here = conda_platform(machine.platform.machine) if machine else manifest.platform
    if here != manifest.platform:
        raise UsageError(
            f"{path.name} is for {manifest.platform}, and this machine is {here}",
            hints=[f"make one for it: provision bundle LOCK --platform {here} -o {path.name}"],
            code="bundle-platform",
        )


def _with_disk(locked: Locked, manifest: BundleManifest) -> Locked:
    """Return the lock with what it takes on disk, where nobody has estimated that: another tool's lock names no sizes."""
    plan = locked.plan
    if plan.estimates.disk_mib is not None:
        return locked
    return replace(locked, plan=replace(plan, estimates=Estimates(disk_mib=round(manifest.size * UNPACKED / MIB))))


def _files_for(locked: Locked, manifest: BundleManifest, path: Path, *, own: bool) -> dict[str, BundledFile]:
    """Return the bundle's file for each address in the lock, found by sha256: what is trusted is the lock."""
    by_sha256 = {file.sha256: file for file in manifest.files}
    used = {}
    for package in locked.needed:
        file = by_sha256.get(package.sha256)
        if file is None and own:
            raise IntegrityError(f"{path.name} lacks {package.filename}, which its own lock names", hints=[ANEW])
        if file is None:
            raise SourceUnreachable(
                f"{path.name} was made for another lock: it has no {package.filename} of that sha256",
                hints=["leave --lock out to use the bundle's own", ANEW],
                code="bundle-lacks-file",
            )
        used[package.url] = file
    return used


@contextmanager
def _folder(path: Path) -> Iterator[tuple[Path, BundleManifest]]:
    try:
        text = (path / MANIFEST).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} is no complete bundle: it has no {MANIFEST}",
            hints=["was making it interrupted? run the same `provision bundle` again"],
            code="no-bundle",
        ) from error
    manifest = read_manifest_text(text)
    with progress.task("checking the bundle", total=len(manifest.files), unit="files") as task:

        def check(file: BundledFile) -> None:
            _check(path / file.path, file)
            task.advance()

        side_by_side(check, (_lock_entry(path, manifest), *manifest.files))
    yield path, manifest


def _lock_entry(root: Path, manifest: BundleManifest) -> BundledFile:
    """Return the lock as a file of the bundle; its size is whatever it is, since the manifest does not state it."""
    place = root / manifest.lock
    return BundledFile(manifest.lock, "", manifest.lock_sha256, place.stat().st_size if place.is_file() else 0)


def _check(place: Path, file: BundledFile) -> None:
    if not place.is_file():
        raise IntegrityError(f"the bundle lacks {file.path}", why="it was copied in part", hints=[ANEW])
    try:
        download.check_file(place, sha256=file.sha256, size=file.size)
    except IntegrityError as error:
        raise _changed(file, error.what) from error


def _changed(file: BundledFile, why: str) -> IntegrityError:
    return IntegrityError(f"{file.path} in the bundle is not the file that was put there", why=why, hints=[ANEW])


@contextmanager
def _unpacked(archive: Path) -> Iterator[tuple[Path, BundleManifest]]:
    """Unpack an archive into the cache, each file checked on its way, and remove it afterwards; a killed run's files are used."""
    is_archive(archive)
    home = paths.cache_dir() / "bundles"
    with _damaged(archive), tarfile.open(archive, "r:") as bundle:
        members = {member.name: member for member in bundle.getmembers()}  # reads every header: a cut archive shows here
        manifest = read_manifest_text(_read(bundle, members, MANIFEST))
        with exclusive(home / f"{manifest.digest[:16]}.lock", f"working from {archive.name}"):
            root = home / manifest.digest[:16]
            _check_space(manifest, root)
            try:
                _unpack(bundle, members, manifest, root)
                yield root, manifest
            finally:
                shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _damaged(archive: Path) -> Iterator[None]:
    try:
        yield
    except tarfile.TarError as error:
        raise IntegrityError(f"{archive.name} is damaged or cut off", why=str(error) or None, hints=[ANEW]) from error


def _read(bundle: tarfile.TarFile, members: dict[str, tarfile.TarInfo], name: str) -> bytes:
    stream = bundle.extractfile(members[name]) if name in members and members[name].isfile() else None
    if stream is None:
        raise IntegrityError(f"the archive holds no {name}", why="it is no bundle, or not all of one", hints=[ANEW])
    with stream:
        return stream.read()


def _check_space(manifest: BundleManifest, root: Path) -> None:
    free = shutil.disk_usage(root.parent).free
    if free < manifest.size:
        raise NoRoute(
            f"too little disk space to unpack the bundle: {free // MIB} MiB free, {manifest.size // MIB} MiB needed",
            hints=["unpack it elsewhere (tar -xf) and give the folder", "or move the cache: PROVISION_CACHE_DIR=/big/disk"],
            code="disk-or-tmp-full",
        )


def _unpack(bundle: tarfile.TarFile, members: dict[str, tarfile.TarInfo], manifest: BundleManifest, root: Path) -> None:
    lock = _read(bundle, members, manifest.lock)
    if hashlib.sha256(lock).hexdigest() != manifest.lock_sha256:
        raise IntegrityError("the bundle's lock is not the one that was put there", hints=[ANEW])
    paths.write_atomic(root / manifest.lock, lock)
    with progress.task("unpacking the bundle", total=manifest.size, unit="B") as task:
        for file in manifest.files:
            if file.path not in members or not members[file.path].isfile():
                raise IntegrityError(f"the bundle lacks {file.path}", hints=[ANEW])
            place = root / file.path
            if not (place.is_file() and download.file_sha256(place) == file.sha256):
                _copy_out(bundle, members[file.path], file, place)
            task.advance(file.size, detail=file.path)


def _copy_out(bundle: tarfile.TarFile, member: tarfile.TarInfo, file: BundledFile, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    stream = bundle.extractfile(member)
    assert stream is not None
    with stream, place.open("wb") as target:
        while block := stream.read(MIB):
            found.update(block)
            target.write(block)
    if found.hexdigest() != file.sha256:
        place.unlink()
        raise _changed(file, f"sha256 {found.hexdigest()}, expected {file.sha256}")
