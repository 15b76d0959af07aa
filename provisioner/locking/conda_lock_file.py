"""``conda-lock.yml`` (version 1): written and read through conda-lock's own models, so that it and micromamba accept it.

The file carries no time stamp: the same inputs give the same bytes. What conda-lock has no field for stands in ``custom_metadata``.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from provisioner import paths
from provisioner.errors import UsageError
from provisioner.locking.values import MAIN, Lock, LockedPackage

HEADER = """\
# A lock by provision: exact files with their hashes. Do not edit.
#   create it:        provision create NAME --lock {name}
#   without provision: conda-lock install -n NAME {name}    (flash-attn is then missing where it is built from source)
"""


def write_lock(lock: Lock, path: Path) -> None:
    """Write ``lock`` to ``path``, whole or not at all."""
    paths.write_atomic(path, render(lock, name=path.name))


def render(lock: Lock, *, name: str = "conda-lock.yml") -> str:
    """Return the text of the lock file."""
    import tempfile

    from conda_lock.lockfile import write_conda_lock_file

    with tempfile.TemporaryDirectory(prefix="provision-lock-") as folder:
        path = Path(folder, name)
        with _silence():
            write_conda_lock_file(_content(lock), path, metadata_choices=None, include_help_text=False)
        return HEADER.format(name=name) + path.read_text()


def read_lock(path: Path) -> Lock:
    """Return the lock that a ``conda-lock.yml`` holds, ours or another's (then without our metadata).

    Raise `UsageError` when it cannot be read or has more than one platform that we make environments for.
    """
    from conda_lock.lockfile import parse_conda_lock_file

    if not path.is_file():
        raise UsageError(f"there is no lock file {path}", hints=[f"make one: provision lock -o {path}"], code="no-lock")
    try:
        with _silence():
            content = parse_conda_lock_file(path)
    except Exception as error:  # pydantic, YAML and conda-lock errors alike mean: not a lock
        raise UsageError(f"{path} is not a conda-lock.yml that can be read: {error}", code="bad-lock") from error
    packages = tuple(_package(row) for row in content.package)
    platforms = content.metadata.platforms
    return Lock(
        platform=platforms[0],
        packages=packages,
        channels=tuple(channel.url for channel in content.metadata.channels),
        metadata=dict(content.metadata.custom_metadata or {}),
    )


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep conda-lock's own prints from reaching a document on stdout."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _content(lock: Lock) -> Any:
    from conda_lock.lockfile.v2prelim.models import Lockfile, LockMeta

    meta = LockMeta(
        content_hash={lock.platform: lock.metadata.get("provision-plan-digest", "")},
        channels=list(lock.channels),
        platforms=[lock.platform],
        sources=[],
        custom_metadata=dict(sorted(lock.metadata.items())),
    )
    return Lockfile(package=[_row(package) for package in lock.packages], metadata=meta)


def _row(package: LockedPackage) -> Any:
    from conda_lock.lockfile.v1.models import DependencySource
    from conda_lock.lockfile.v2prelim.models import HashModel, LockedDependency

    source = None
    if package.manager == "pip":
        source = DependencySource(type="url", url=f"{package.url}#sha256={package.sha256}")
    return LockedDependency(
        name=package.name,
        version=package.version,
        manager=package.manager,
        platform=package.platform,
        dependencies=package.dependencies,
        url=package.url,
        hash=HashModel(md5=package.md5, sha256=package.sha256),
        source=source,
        build=package.build,
        categories={package.category},
    )


def _package(row: Any) -> LockedPackage:
    return LockedPackage(
        name=row.name,
        version=row.version,
        manager=str(row.manager),
        platform=row.platform,
        url=row.url.split("#", 1)[0],
        sha256=row.hash.sha256 or "",
        md5=row.hash.md5,
        build=row.build,
        category=MAIN if MAIN in row.categories else min(row.categories),
        dependencies=dict(row.dependencies),
    )
