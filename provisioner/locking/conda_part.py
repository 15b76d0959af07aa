"""The conda part of a lock: solved in-process by py-rattler, from live channels or from the embedded snapshot.

py-rattler 0.28 may crash while the interpreter is finalised (see `provisioner.cli.app.main`), never before its result is complete.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from provisioner import download, paths
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable, UsageError
from provisioner.locking.values import LockedPackage

if TYPE_CHECKING:
    from rattler import RepoDataRecord

DEFAULT_CHANNEL = "conda-forge"
CHANNEL_ALIAS = "https://conda.anaconda.org"


@dataclass(frozen=True, slots=True)
class Virtual:
    """The target's virtual packages: versions of CUDA (None without a driver), glibc and the kernel."""

    cuda: str | None
    glibc: str
    linux: str = "5.10"
    archspec: str = "x86_64"


@dataclass(frozen=True, slots=True)
class CondaSolution:
    """The solved packages and where their metadata came from; ``snapshot_date`` is None for live channels."""

    packages: tuple[LockedPackage, ...]
    channels: tuple[str, ...]
    snapshot_date: str | None = None


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What the embedded snapshot is: canonical channel, newest record's date (ISO), record count, and origin."""

    channel: str
    date: str
    records: int
    source: str


def channel_url(name: str) -> str:
    """Return the base URL of a channel given by name, URL or path. Raise `UsageError` for one with a password in it."""
    if "://" in name:
        if "@" in urlsplit(name).netloc:
            raise UsageError(
                f"the channel {download.redact(name)} is given with a password in its URL",
                why="it would stand in the lock for everybody to read",
                hints=[
                    "put it into ~/.netrc (machine, login, password) and leave it out of the URL",
                    "or into RATTLER_AUTH_FILE",
                ],
                code="password-in-url",
            )
        return name.rstrip("/")
    if name.startswith(("/", "./", "../", "~")):
        return Path(name).expanduser().resolve().as_uri()
    return f"{CHANNEL_ALIAS}/{name}"


def snapshot_info() -> SnapshotInfo:
    """Return what the embedded channel snapshot is."""
    text = importlib.resources.files("provisioner.locking").joinpath("snapshot/about.json").read_bytes()
    return msgspec.json.decode(text, type=SnapshotInfo)


def solve_live(
    specs: Sequence[str],
    channels: Sequence[str],
    *,
    platform: str,
    virtual: Virtual,
    exclude_newer: datetime | None = None,
) -> CondaSolution:
    """Solve ``specs`` against live channels in strict priority.

    Credentials come from where rattler looks: ``~/.netrc``, ``RATTLER_AUTH_FILE``, the keyring.
    Raise `SourceUnreachable` when a channel does not answer, `NoRoute` naming the blocking package when nothing fits.
    """
    from rattler import Channel, Client, Gateway

    urls = tuple(channel_url(name) for name in channels)
    sources = [Channel(url) for url in urls]
    gateway = Gateway(cache_dir=paths.cache_dir() / "repodata", client=Client.default_client())
    records = _solved(
        specs, sources, platform=platform, virtual=virtual, exclude_newer=exclude_newer, gateway=gateway, where=", ".join(urls)
    )
    return CondaSolution(tuple(_locked(record, platform) for record in records), urls)


def solve_snapshot(specs: Sequence[str], *, virtual: Virtual, platform: str = "linux-64") -> CondaSolution:
    """Solve ``specs`` against the embedded snapshot, offline. Raise `NoRoute` as `solve_live` does."""
    from rattler import Channel, SparseRepoData

    info = snapshot_info()
    if platform != "linux-64":
        raise NoRoute(
            f"the embedded channel snapshot has no packages for {platform}",
            why=f"it holds {info.records} records for linux-64 and noarch",
            hints=["use a live channel: --channel conda-forge, with the network on"],
            code="snapshot-platform",
        )
    sources = [SparseRepoData(Channel(info.channel), subdir, str(_snapshot_file(subdir))) for subdir in (platform, "noarch")]
    records = _solved(specs, sources, platform=platform, virtual=virtual, where=f"the snapshot of {info.date}")
    return CondaSolution(tuple(_locked(record, platform) for record in records), (info.channel,), info.date)


def _solved(
    specs: Sequence[str], sources: Sequence[Any], *, platform: str, virtual: Virtual, where: str, **options: Any
) -> list[RepoDataRecord]:
    from rattler import ChannelPriority, MatchSpec, Subdir, solve
    from rattler.exceptions import GatewayError, SolverError

    try:
        records = asyncio.run(
            solve(
                sources=list(sources),
                specs=[MatchSpec(spec, strict=False) for spec in specs],
                platforms=[Subdir(platform), Subdir("noarch")],
                virtual_packages=_virtual_packages(virtual),
                channel_priority=ChannelPriority.Strict,
                **options,
            )
        )
    except SolverError as error:
        raise NoRoute(
            f"no set of conda packages satisfies {', '.join(specs)}",
            why=str(error).strip(),
            hints=["loosen the version named above, or choose another --cuda or --python"],
            code="unsolvable",
        ) from error
    except GatewayError as error:
        raise SourceUnreachable(
            f"the conda channel did not answer: {where}",
            why=str(error).strip().splitlines()[0],
            hints=["leave --channel out to lock from the embedded snapshot", "or name a mirror: --channel URL"],
        ) from error
    return sorted(records, key=lambda record: (record.name.normalized, record.url))


def _virtual_packages(virtual: Virtual) -> list[Any]:
    """Return the target's virtual packages, stated in full so that nothing of this host leaks into the lock."""
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version

    stated = [("__unix", "0", "0"), ("__linux", virtual.linux, "0"), ("__glibc", virtual.glibc, "0")]
    stated.append(("__archspec", "1", virtual.archspec))
    if virtual.cuda is not None:
        stated.append(("__cuda", virtual.cuda, "0"))
    return [GenericVirtualPackage(PackageName(name), Version(version), BuildString(build)) for name, version, build in stated]


def _locked(record: RepoDataRecord, platform: str) -> LockedPackage:
    if record.sha256 is None or record.md5 is None:
        raise IntegrityError(
            f"the channel gives no sha256 and md5 for {record.file_name}",
            why="a lock needs both (conda-lock's format demands md5)",
            hints=["use a channel with complete repodata"],
        )
    return LockedPackage(
        name=record.name.normalized,
        version=str(record.version),
        manager="conda",
        platform=platform,
        url=str(record.url),
        sha256=record.sha256.hex(),
        md5=record.md5.hex(),
        size=record.size,
        build=str(record.build),
        dependencies=dict(_dependency(text) for text in record.depends if not text.startswith("__")),
    )


def _dependency(text: str) -> tuple[str, str]:
    """Split ``name spec build``; build strings are dropped, as conda-lock drops them."""
    name, _, spec = text.partition(" ")
    return name, spec.strip().split(" ")[0]


def _snapshot_file(subdir: str) -> Path:
    """Return the unpacked repodata of a subdir, unpacking it into the cache under its digest the first time."""
    packed = importlib.resources.files("provisioner.locking").joinpath(f"snapshot/{subdir}.json.gz").read_bytes()
    target = paths.cache_dir() / "snapshot" / f"{subdir}-{hashlib.sha256(packed).hexdigest()[:16]}.json"
    if not target.exists():
        paths.write_atomic(target, gzip.decompress(packed))
    return target
