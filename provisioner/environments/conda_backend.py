"""The conda backend: Python, compilers and the CUDA toolkit from conda packages, installed in-process by py-rattler.

No conda, mamba or micromamba is needed; the prefix is a real one (``conda-meta``), which they all work on.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from provisioner import download, paths, progress
from provisioner.errors import BuildFailed, IntegrityError, ProvisionError, SourceUnreachable, full_disk, says_full
from provisioner.locking.values import LockedPackage

if TYPE_CHECKING:
    from rattler import RepoDataRecord


def install(prefix: Path, packages: Sequence[LockedPackage], specs: Sequence[str] = ()) -> None:
    """Install exactly these conda packages into ``prefix``; ``specs`` are recorded as what the user asked for.

    Raise `IntegrityError` when a package is not what the lock says, `SourceUnreachable` when one cannot be fetched.
    """
    from rattler import Client, MatchSpec, Subdir
    from rattler import install as rattler_install

    for package in packages:
        _check_local(package)
    with progress.task(f"installing {len(packages)} conda packages", total=len(packages), unit="packages") as task:
        try:
            asyncio.run(
                rattler_install(
                    [_record(package) for package in packages],
                    target_prefix=prefix,
                    cache_dir=paths.cache_dir() / "conda-pkgs",
                    client=Client.default_client(),
                    platform=Subdir(packages[0].platform),
                    # py-rattler 0.28.0 wants the inner object here (seen 2026-11-24)
                    requested_specs=[MatchSpec(spec, strict=False)._match_spec for spec in specs],
                    show_progress=False,
                    reporter=_reporter(task),
                )
            )
        except Exception as error:  # py-rattler raises plain exceptions from its Rust side
            raise _install_error(error) from error
    _note_canonical_urls(prefix, packages)


def _check_local(package: LockedPackage) -> None:
    """Check a package that lies here against the lock: py-rattler 0.28 installs a swapped one silently (seen 2026-11-24)."""
    parts = urlsplit(download.mirrored(package.url))
    if parts.scheme != "file":
        return
    path = Path(unquote(parts.path))
    if not path.is_file():
        raise SourceUnreachable(f"the locked package is gone: {path}", code="package-missing")
    download.check_file(path, sha256=package.sha256)


def _record(package: LockedPackage) -> RepoDataRecord:
    from rattler import BuildString, PackageRecord, RepoDataRecord

    subdir = package.url.rsplit("/", 2)[-2]
    record = PackageRecord(
        package.name,
        package.version,
        BuildString(package.build or ""),
        0,
        subdir,
        noarch="python"
        if subdir == "noarch" and (package.build or "").startswith("py")
        else "generic"
        if subdir == "noarch"
        else None,
        depends=[f"{name} {spec}".strip() for name, spec in package.dependencies.items()],
        sha256=bytes.fromhex(package.sha256),
        md5=bytes.fromhex(package.md5) if package.md5 else None,
        size=package.size,
    )
    url = download.mirrored(package.url)
    return RepoDataRecord(record, package.filename, url, package.url.rsplit("/", 2)[0])


def _note_canonical_urls(prefix: Path, packages: Sequence[LockedPackage]) -> None:
    """Let ``conda-meta`` name each package by the lock's address: a mirror's, or that of a bundle's copy, means nothing later."""
    for package in packages:
        used = download.mirrored(package.url)
        record = prefix / "conda-meta" / f"{package.name}-{package.version}-{package.build}.json"
        if used == package.url or not record.is_file():
            continue
        stated = json.loads(record.read_text())
        paths.write_atomic(record, json.dumps({**stated, "url": package.url}, indent=2))


def _reporter(task: progress.Task) -> Any:
    from rattler import InstallerReporter

    names: dict[int, str] = {}

    class Reporter(InstallerReporter):
        def on_populate_cache_start(self, operation: int, package_name: str) -> int:
            names[operation] = package_name
            task.advance(0, detail=package_name)
            return operation

        def on_download_start(self, cache_entry: int) -> int:
            return cache_entry

        def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
            size = f" of {total / 2**20:.0f}" if total else ""
            task.advance(0, detail=f"{names.get(download_idx, '')} {progress / 2**20:.0f}{size} MiB")

        def on_link_complete(self, index: int) -> None:
            task.advance()

    return Reporter()  # type: ignore[abstract]  # its methods do nothing by default


def _install_error(error: Exception) -> ProvisionError:
    said = str(error).strip()
    lowered = said.lower()
    if "hash mismatch" in lowered:
        return IntegrityError(
            "a conda package is not the one that was locked",
            why=said,
            hints=["lock anew if you trust the channel", "otherwise ask whoever runs the channel or mirror"],
        )
    if says_full(said):
        return full_disk(said)
    if any(mark in lowered for mark in ("error sending request", "failed to fetch", "connect", "404", "status")):
        return SourceUnreachable(
            "a conda package cannot be fetched", why=said, hints=["run the same command again: what was fetched is kept"]
        )
    return BuildFailed(
        "the conda packages could not be installed",
        why=said,
        hints=["run the same command again, with -v to see more", "or take the other backend: --backend venv"],
        code="install-failed",
    )
