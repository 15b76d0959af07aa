"""Sources by hash: an sdist from the package index, or a tree that the user names, unpacked where no path can escape."""

from __future__ import annotations

import hashlib
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from provisioner import download, paths
from provisioner.building.releases import Release
from provisioner.errors import IntegrityError, UsageError
from provisioner.indexes import IndexSettings, read_index_settings
from provisioner.sdists import find_sdist

PROJECT = "flash-attn"


@dataclass(frozen=True, slots=True)
class NamedTree:
    """A source tree that the user names: a folder, an archive, or a URL of one (then ``sha256`` is required).

    Nothing is promised about it beyond what the inspection of the result shows.
    """

    location: str
    sha256: str | None = None


def fetch_sdist(release: Release, *, index_url: str | None = None) -> Path:
    """Return the sdist of ``release``, from the cache or else from the package index (the user's own when None).

    Raise `SourceUnreachable` when the index does not answer or lacks the file, `IntegrityError` when the bytes are others.
    """
    target = paths.cache_dir() / "sources" / release.sha256[:16] / release.filename
    if target.is_file() and download.file_sha256(target) == release.sha256:
        return target
    settings = IndexSettings("pip", index_url) if index_url else read_index_settings()
    found = find_sdist(PROJECT, release.version, settings)
    token = download.credentials.set({**(download.credentials.get() or {}), **settings.credentials()})
    try:
        return download.fetch(found.url, target, sha256=release.sha256, size=release.size)
    finally:
        download.credentials.reset(token)


def fetch_tree(named: NamedTree, scratch: Path) -> tuple[Path, str]:
    """Return the unpacked tree of ``named`` and its sha256 (of the archive, or of a folder's contents).

    Raise `UsageError` for a URL without a hash, `IntegrityError` when the hash is another.
    """
    local = Path(named.location).expanduser()
    if local.is_dir():
        found = tree_sha256(local)
        if named.sha256 and named.sha256.lower() != found:
            raise IntegrityError(f"{local}: sha256 of the tree is {found}, expected {named.sha256}")
        target = scratch / "tree"
        shutil.copytree(local, target, symlinks=True, ignore=shutil.ignore_patterns(".git"))
        return target, found
    archive = local.absolute() if local.is_file() else _fetch_archive(named)
    found = download.file_sha256(archive)
    if named.sha256 and named.sha256.lower() != found:
        raise IntegrityError(f"{archive.name}: sha256 {found}, expected {named.sha256}")
    return unpack(archive, scratch / "tree"), found


def check_named(named: NamedTree) -> None:
    """Raise `UsageError` where ``named`` is neither there nor a URL with a hash."""
    local = Path(named.location).expanduser()
    if local.is_dir() or local.is_file():
        return
    if urlsplit(named.location).scheme not in ("http", "https", "file"):
        raise UsageError(
            f"no such source tree: {named.location}",
            hints=["--source takes a folder, an archive, or a URL with --sha256"],
            code="no-source",
        )
    if not named.sha256:
        raise UsageError(
            "a source from a URL needs its hash",
            code="no-hash",
            why="nothing unhashed is compiled",
            hints=[f"provision build --source {download.redact(named.location)} --sha256 …"],
        )


def _fetch_archive(named: NamedTree) -> Path:
    check_named(named)
    assert named.sha256 is not None
    parts = urlsplit(named.location)
    name = PurePosixPath(parts.path).name or "source.tar.gz"
    target = paths.cache_dir() / "sources" / named.sha256[:16] / name
    return download.fetch(named.location, target, sha256=named.sha256)


def tree_sha256(root: Path) -> str:
    """Return the sha256 over a folder's file names and contents (``.git`` left out; order and times do not matter)."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*"), key=lambda item: item.relative_to(root).as_posix()):
        relative = path.relative_to(root)
        if ".git" in relative.parts or not (path.is_file() or path.is_symlink()):
            continue
        content = str(path.readlink()) if path.is_symlink() else download.file_sha256(path)
        total.update(f"{relative.as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a tar or zip archive into the new folder ``target`` and return its root (its single folder, if it has one).

    Devices, and links and paths that would leave ``target``, are refused with `IntegrityError`. ``target`` appears whole or not
    at all.
    """
    if target.exists():
        return _single_root(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        if zipfile.is_zipfile(archive):
            _unpack_zip(archive, partial)
        else:
            _unpack_tar(archive, partial)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and paths.refuses(error):
            error.filename = error.filename or str(target)
            raise
        raise IntegrityError(f"{archive.name} cannot be unpacked: {error}") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    try:
        os.replace(partial, target)
    except OSError:  # another build unpacked the same
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():
            raise
    return _single_root(target)


def _single_root(folder: Path) -> Path:
    entries = list(folder.iterdir())
    return entries[0] if len(entries) == 1 and entries[0].is_dir() else folder


def _inside(root: Path, name: str) -> Path:
    """Return where ``name`` lies below ``root``; raise `IntegrityError` when it would lie elsewhere."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or "\0" in name or "\\" in name:
        raise IntegrityError(f"the archive holds a path that leaves it: {name!r}", why="a damaged or hostile archive")
    return root.joinpath(*pure.parts)


def _unpack_tar(archive: Path, root: Path) -> None:
    with tarfile.open(archive) as bundle:
        for member in bundle:
            place = _inside(root, member.name)
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            elif member.isfile():
                content = bundle.extractfile(member)
                assert content is not None
                place.parent.mkdir(parents=True, exist_ok=True)
                with content, place.open("wb") as file:
                    shutil.copyfileobj(content, file)
                os.chmod(place, 0o755 if member.mode & stat.S_IXUSR else 0o644)
            elif member.issym():
                _inside(root, str(PurePosixPath(member.name).parent / member.linkname))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(member.linkname)
            else:
                raise IntegrityError(f"the archive holds {member.name!r}, which is neither a file nor a folder")


def _unpack_zip(archive: Path, root: Path) -> None:
    with zipfile.ZipFile(archive) as bundle:
        for info in bundle.infolist():
            place = _inside(root, info.filename)
            if info.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise IntegrityError(f"the archive holds a link: {info.filename!r}")
            place.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(info) as content, place.open("wb") as file:
                shutil.copyfileobj(content, file)
