"""The embedded channel snapshot: real conda-forge metadata for what the recipes need, so that a lock needs no channel.

``snapshot/about.json`` states what it is and the sha256 of each file; another file than the shipped one is refused.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

from provisioner import download, paths
from provisioner.errors import IntegrityError

FOLDER = Path(__file__).with_name("snapshot_data")
PLATFORM = "linux-64"
SUBDIRS = (PLATFORM, "noarch")


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What the snapshot is: canonical channel, newest record's date (ISO), record count, origin, and the sha256 of its files.

    ``sha256`` has an entry for each packed file (``noarch.json.gz``) and for what it unpacks to (``noarch.json``).
    """

    channel: str
    date: str
    records: int
    source: str
    sha256: dict[str, str]


def about(folder: Path = FOLDER) -> SnapshotInfo:
    """Return what the embedded channel snapshot is."""
    return msgspec.json.decode((folder / "about.json").read_bytes(), type=SnapshotInfo)


def repodata(subdir: str, folder: Path = FOLDER) -> Path:
    """Return the unpacked repodata of a subdir, unpacked into the cache under its digest the first time.

    Raise `IntegrityError` when the shipped file is not the one that ``about.json`` states; a changed copy in the cache is replaced.
    """
    stated = about(folder).sha256
    packed = folder / f"{subdir}.json.gz"
    wanted = stated[f"{subdir}.json"]
    target = paths.cache_dir() / "snapshot" / f"{subdir}-{wanted[:16]}.json"
    _check(packed, stated[packed.name])
    if not target.is_file() or download.file_sha256(target) != wanted:
        data = gzip.decompress(packed.read_bytes())
        if hashlib.sha256(data).hexdigest() != wanted:
            raise _changed(packed)
        paths.write_atomic(target, data)
    return target


def write(folder: Path, channel: str, date: str, source: str, contents: dict[str, bytes]) -> SnapshotInfo:
    """Write a snapshot: ``contents`` is the ``repodata.json`` of each subdir. The same contents give the same bytes."""
    digests: dict[str, str] = {}
    records = 0
    folder.mkdir(parents=True, exist_ok=True)
    for subdir, data in contents.items():
        packed = gzip.compress(data, mtime=0)
        paths.write_atomic(folder / f"{subdir}.json.gz", packed)
        digests |= {f"{subdir}.json": hashlib.sha256(data).hexdigest(), f"{subdir}.json.gz": hashlib.sha256(packed).hexdigest()}
        content = msgspec.json.decode(data)
        records += len(content.get("packages", {})) + len(content.get("packages.conda", {}))
    info = SnapshotInfo(channel, date, records, source, dict(sorted(digests.items())))
    paths.write_atomic(folder / "about.json", msgspec.json.format(msgspec.json.encode(info), indent=2) + b"\n")
    return info


def _check(path: Path, sha256: str) -> None:
    if download.file_sha256(path) != sha256:
        raise _changed(path)


def _changed(path: Path) -> IntegrityError:
    return IntegrityError(
        f"the embedded channel snapshot was changed: {path.name}",
        why="its sha256 is not the one that it ships with",
        hints=["install provision again", "or lock against a live channel: --channel conda-forge"],
        code="snapshot-changed",
    )
