"""The conda part of a lock: solved in-process by py-rattler, from live channels or from the embedded snapshot.

py-rattler 0.28 may crash while the interpreter is finalised (see `provisioner.cli.app.main`), never before its result is complete.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from provisioner import download
from provisioner.condarc import CHANNEL_ALIAS, CONDA_FORGE, read_conda_settings
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable, UsageError
from provisioner.locking import snapshot
from provisioner.locking.values import LockedPackage

if TYPE_CHECKING:
    from rattler import RepoDataRecord

DEFAULT_CHANNEL = CONDA_FORGE
TRIES = 4
"""How many specs are loosened, one at a time, to find what would work."""


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


def channel_url(name: str) -> str:
    """Return the base URL of a channel given by name, URL or path. Raise `UsageError` for one with a password or token in it.

    A token stands in the path: ``https://HOST/t/TOKEN/CHANNEL`` (conda 24.7.1 ``conda/common/url.py``, read 2026-11-27).
    """
    if "://" in name:
        if "@" in urlsplit(name).netloc or re.search(r"/t/[A-Za-z0-9-]+(/|$)", urlsplit(name).path):
            raise UsageError(
                f"a channel of {urlsplit(name).hostname} is given with a password or token in its URL",
                why="it would stand in the lock for everybody to read",
                hints=[
                    "put it into ~/.netrc (machine, login, password) and leave it out of the URL",
                    "or into RATTLER_AUTH_FILE",
                    "if it stands in .condarc: --channel conda-forge leaves it out of this run",
                ],
                code="password-in-url",
            )
        return name.rstrip("/")
    if name.startswith(("/", "./", "../", "~")):
        return Path(name).expanduser().resolve().as_uri()
    if name == CONDA_FORGE:
        return f"{CHANNEL_ALIAS}/{name}"
    places = dict(read_conda_settings().places)
    return places.get(name) or f"{places.get('*', CHANNEL_ALIAS)}/{name}"


def default_channels() -> tuple[str, ...]:
    """Return the channels to use where none is named: the user's own with conda-forge among them, else conda-forge."""
    return read_conda_settings().channels or (DEFAULT_CHANNEL,)


def solve_live(
    specs: Sequence[str],
    channels: Sequence[str],
    *,
    platform: str,
    virtual: Virtual,
    exclude_newer: datetime | None = None,
    previous: Sequence[LockedPackage] = (),
) -> CondaSolution:
    """Solve ``specs`` against live channels in strict priority; ``previous`` packages stay where they can.

    Credentials come from where rattler looks: ``~/.netrc``, ``RATTLER_AUTH_FILE``, the keyring.
    Raise `SourceUnreachable` when a channel does not answer, `NoRoute` naming the blocking package when nothing fits.
    """
    from rattler import Channel, Gateway

    from provisioner import paths

    urls = tuple(channel_url(name) for name in channels)
    sources = [Channel(url) for url in urls]
    gateway = Gateway(cache_dir=paths.cache_dir() / "repodata", client=client(urls))
    options = {"exclude_newer": exclude_newer, "gateway": gateway, "locked_packages": records_of(previous) or None}
    records = _solved(specs, sources, platform=platform, virtual=virtual, where=", ".join(urls), **options)
    return CondaSolution(tuple(_locked(record, platform) for record in records), urls)


def client(urls: Sequence[str]) -> Any:
    """Return rattler's HTTP client, which fetches these channels from the user's mirrors; records keep the canonical URLs."""
    from rattler import Client, Config

    mirrored = {url: download.mirrored(f"{url}/").rstrip("/") for url in urls}
    lines = [f"{json.dumps(url)} = [{json.dumps(mirror)}]" for url, mirror in mirrored.items() if mirror != url]
    if not lines:
        return Client.default_client()
    return Client.from_config(Config.from_toml("\n".join(["[mirrors]", *lines])))


def solve_snapshot(
    specs: Sequence[str],
    *,
    virtual: Virtual,
    platform: str = "linux-64",
    exclude_newer: datetime | None = None,
    previous: Sequence[LockedPackage] = (),
) -> CondaSolution:
    """Solve ``specs`` against the embedded snapshot, offline; with ``exclude_newer`` records without a date count as newer.

    Raise `NoRoute` as `solve_live` does, `SourceUnreachable` for a platform that the snapshot lacks, `IntegrityError` when it was changed.
    """
    from rattler import Channel, SparseRepoData

    info = snapshot.about()
    if platform != snapshot.PLATFORM:
        raise SourceUnreachable(
            f"the conda packages of {platform} need a live channel, and none answers",
            why=f"the embedded snapshot holds {info.records} records, all for {snapshot.PLATFORM}",
            hints=[
                "name a channel or mirror that you can reach: --channel URL, --mirror NAME",
                *(["or leave --offline out"] if download.offline.get() else []),
            ],
            code="snapshot-platform",
        )
    sources = [SparseRepoData(Channel(info.channel), subdir, str(snapshot.repodata(subdir))) for subdir in (platform, "noarch")]
    options = {"exclude_newer": exclude_newer, "locked_packages": records_of(previous) or None}
    records = _solved(specs, sources, platform=platform, virtual=virtual, where=f"the snapshot of {info.date}", **options)
    return CondaSolution(tuple(_locked(record, platform) for record in records), (info.channel,), info.date)


def _solved(
    specs: Sequence[str], sources: Sequence[Any], *, platform: str, virtual: Virtual, where: str, **options: Any
) -> list[RepoDataRecord]:
    from rattler.exceptions import GatewayError, SolverError

    def solved(wanted: Sequence[str], **other: Any) -> list[RepoDataRecord]:
        return asyncio.run(_solve(wanted, sources, platform, virtual, {**options, **other}))

    try:
        records = solved(specs)
    except SolverError as error:
        nearest = [*(_nearest_day(specs, solved) if options.get("exclude_newer") else []), *_nearest(specs, solved)]
        raise NoRoute(
            f"no set of conda packages satisfies {', '.join(specs)}",
            why=str(error).strip(),
            hints=[*nearest, "loosen the version named above, or choose another --cuda or --python"],
            code="unsolvable",
        ) from error
    except GatewayError as error:
        raise SourceUnreachable(
            f"the conda channel cannot be read: {where}",
            why=str(error).strip().splitlines()[0],
            hints=["leave --channel out to lock from the embedded snapshot", "or name a mirror: --mirror NAME, --channel URL"],
        ) from error
    return sorted(records, key=lambda record: (record.name.normalized, record.url))


def _nearest(specs: Sequence[str], solved: Callable[[Sequence[str]], list[RepoDataRecord]]) -> list[str]:
    """Return, for single specs, the version with which all the others would go: each is tried without its version."""
    from rattler.exceptions import GatewayError, SolverError

    hints = []
    for spec in [spec for spec in specs if " " in spec][:TRIES]:
        name = spec.split(" ")[0]
        try:
            records = solved([name if other == spec else other for other in specs])
        except (SolverError, GatewayError):
            continue
        version = next(str(record.version) for record in records if record.name.normalized == name)
        hints.append(f"{name} {version} goes with all the rest; {spec} does not")
    return hints


def _nearest_day(specs: Sequence[str], solved: Callable[..., list[RepoDataRecord]]) -> list[str]:
    """Return, where only the date forbids, the day of the newest package that would be chosen without it: with that day it goes."""
    from rattler.exceptions import GatewayError, SolverError

    try:
        records = solved(specs, exclude_newer=None)
    except (SolverError, GatewayError):
        return []
    dated = [(record.timestamp, record.name.normalized) for record in records if record.timestamp is not None]
    if len(dated) < len(records):
        return []
    last, name = max(dated)
    return [f"--exclude-newer {last:%Y-%m-%d} goes: {name}, the newest of what is needed, is of {last:%Y-%m-%d}"]


async def _solve(
    specs: Sequence[str], sources: Sequence[Any], platform: str, virtual: Virtual, options: dict[str, Any]
) -> list[RepoDataRecord]:
    from rattler import ChannelPriority, MatchSpec, Subdir, solve

    return await solve(
        sources=list(sources),
        specs=[MatchSpec(spec, strict=False) for spec in specs],
        platforms=[Subdir(platform), Subdir("noarch")],
        virtual_packages=_virtual_packages(virtual),
        channel_priority=ChannelPriority.Strict,
        **{name: value for name, value in options.items() if value is not None},
    )


def records_of(packages: Sequence[LockedPackage]) -> list[RepoDataRecord]:
    """Return locked conda packages as rattler's records, to solve from and to check."""
    from rattler import BuildString, PackageRecord, RepoDataRecord

    records = []
    for package in packages:
        channel, subdir, _ = package.url.rsplit("/", 2)
        record = PackageRecord(
            package.name,
            package.version,
            BuildString(package.build or ""),
            0,
            subdir,
            depends=[f"{name} {spec}".strip() for name, spec in package.dependencies.items()],
            sha256=bytes.fromhex(package.sha256) if package.sha256 else None,
            md5=bytes.fromhex(package.md5) if package.md5 else None,
        )
        records.append(RepoDataRecord(record, package.filename, package.url, channel))
    return records


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
