"""What a bundle is: a lock, every file that `create` needs to carry it out, and a manifest with the digests of all of it.

A bundle is a folder, or the same folder as one uncompressed tar file (its packages are compressed already): the manifest first, then
the lock, then the files by name. The same lock gives the same bytes. ``index/`` serves as a find-links folder, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from provisioner import codec
from provisioner.environments.locked import Locked
from provisioner.errors import IntegrityError, UsageError
from provisioner.locking.values import SOURCE, TOOLCHAIN, LockedPackage

MANIFEST = "bundle.json"
FOLDERS = ("conda", "index")
ARCHIVE = ".tar"


@dataclass(frozen=True, slots=True)
class BundledFile:
    """One file: where it lies in the bundle, the address that the lock gives for it, its sha256 and its size in bytes."""

    path: str
    url: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """``bundle.json``. ``lock`` is the lock's name in the bundle; ``needs`` are sentences on what the target must have itself."""

    lock: str
    lock_sha256: str
    platform: str
    backend: str
    python: str
    files: tuple[BundledFile, ...]
    needs: tuple[str, ...] = ()
    provision: str = ""
    schema: int = codec.SCHEMA

    @property
    def digest(self) -> str:
        """One sha256 (hex) that stands for everything in the bundle."""
        return codec.digest(self)

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


def is_archive(path: Path) -> bool:
    """Say whether a bundle of that name is one file. Raise `UsageError` for an archive of another kind."""
    if path.suffix == ARCHIVE:
        return True
    if re.search(r"\.(tar\.\w+|tgz|tzst|txz|zip|zst|gz)$", path.name):
        raise UsageError(
            f"a bundle in one file is a plain {ARCHIVE}, not {path.name}",
            why="wheels and conda packages are compressed already; compressing them again gains nothing",
            hints=[f"-o {re.split(r'[.](?:tar|tgz|tzst|txz|zip|zst|gz)', path.name)[0]}{ARCHIVE}"],
            code="bundle-format",
        )
    return False


def layout(packages: Sequence[LockedPackage]) -> dict[str, LockedPackage]:
    """Return where each package lies in a bundle, sorted: ``conda/SUBDIR/NAME`` and ``index/NAME``; equal files lie there once.

    Two files of one name get a folder each, named by the beginning of their sha256.
    """
    by_path: dict[str, LockedPackage] = {}
    for package in packages:
        folder = f"conda/{_name(package.url.rsplit('/', 2)[-2])}" if package.manager == "conda" else "index"
        path = f"{folder}/{_name(package.filename)}"
        if by_path.setdefault(path, package).sha256 != package.sha256:
            by_path[f"{folder}/{package.sha256[:12]}/{_name(package.filename)}"] = package
    return dict(sorted(by_path.items()))


def _name(text: str) -> str:
    """Return ``text`` if it is a plain file name. Raise `IntegrityError` for one that would lead elsewhere."""
    if not text or text in (".", "..") or "/" in text or "\\" in text or "\0" in text:
        raise IntegrityError(f"the lock names a file that is none: {text!r}", why="a damaged or hostile lock")
    return text


def needs(locked: Locked) -> Iterator[str]:
    """Yield what the target must have itself, since the bundle cannot bring it."""
    plan = locked.plan
    if plan.driver_floor:
        yield f"an NVIDIA driver, {plan.driver_floor} or newer"
    if plan.backend != "venv":
        return
    builds = bool(locked.lock.of("pip", SOURCE))
    yield f"a Python {plan.python}{' with its headers (Python.h)' if builds else ''}: the venv backend uses one of the host"
    if builds:
        yield "a C++ compiler: flash-attn is compiled there"
        if plan.cuda and not locked.lock.of("pip", TOOLCHAIN):
            yield f"a CUDA {plan.cuda.split('.')[0]} toolkit: the lock brings none (`provision lock --cuda-toolkit index` does, from CUDA 13 on)"


def read_manifest_text(text: bytes) -> BundleManifest:
    """Return the manifest that ``text`` holds. Raise `IntegrityError` when it is damaged or names a place outside the bundle."""
    try:
        manifest = codec.from_json(text, BundleManifest, what=MANIFEST)
    except UsageError as error:
        raise IntegrityError(f"the bundle's {MANIFEST} is damaged", why=error.what, hints=[ANEW]) from error
    for path in (manifest.lock, *(file.path for file in manifest.files)):
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
            raise IntegrityError(f"the bundle names a place outside it: {path!r}", why="a damaged or hostile bundle")
    return manifest


ANEW = "copy the bundle again, or make it anew where there is a network: provision bundle LOCK -o …"
