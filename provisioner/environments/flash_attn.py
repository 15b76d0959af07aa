"""Getting the flash-attn of a plan: fetched or built, and proved on paper before it goes into an environment."""

from __future__ import annotations

from pathlib import Path

from provisioner import download, paths
from provisioner.environments.toolkit import toolkit_from_lock, toolkit_on_machine
from provisioner.errors import IntegrityError, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.locking.values import Lock, LockedPackage
from provisioner.machine.facts import Machine
from provisioner.planning.values import KernelSelection, Plan, Route


def obtain_wheel(
    python: Path,
    plan: Plan,
    machine: Machine,
    lock: Lock,
    settings: IndexSettings,
    *,
    toolkit: str | None = None,
    jobs: int | None = None,
) -> Path | None:
    """Return the wheel of the plan's flash-attn for the interpreter ``python``, None when the plan has none.

    ``python`` must already have its torch: a build compiles against it. Raise `SourceUnreachable`, `IntegrityError` or `BuildFailed`.
    """
    if plan.route is Route.SHIM:
        return _adapter(python, plan, machine, lock, settings, toolkit, jobs)
    package = lock.find("flash-attn")
    if plan.flash_attn is None or package is None:
        return None
    if plan.route is Route.WHEEL:
        return fetch_wheel(package)
    return _build(python, plan, package, settings, _cuda_root(plan, machine, lock, settings, toolkit), jobs)


def _cuda_root(plan: Plan, machine: Machine, lock: Lock, settings: IndexSettings, toolkit: str | None) -> Path | None:
    """Return the CUDA toolkit to compile with, None where the environment's own prefix has it."""
    if plan.backend == "conda" and toolkit is None:
        return None
    return toolkit_on_machine(plan, machine, toolkit) or toolkit_from_lock(lock, settings)


def fetch_wheel(package: LockedPackage) -> Path:
    """Return the locked wheel from the cache, fetching it when it is not there; one of a wheelhouse is used where it lies.

    Raise `SourceUnreachable` when it cannot be had, `IntegrityError` when it is not the locked one.
    """
    if package.url.startswith("file:"):
        return _wheel_on_disk(package)
    folder = paths.cache_dir() / "wheels" / package.sha256[:16]
    return download.fetch(package.url, folder / package.filename, sha256=package.sha256, label=package.filename)


def _wheel_on_disk(package: LockedPackage) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    path = Path(url2pathname(urlsplit(package.url).path))
    if not path.is_file():
        hints = ["lock or create again: without that wheel flash-attn is planned anew", "PROVISION_WHEELHOUSE names the folder"]
        raise SourceUnreachable(f"the wheelhouse no longer has {path}", hints=hints, code="wheel-gone")
    if (found := download.file_sha256(path)) != package.sha256:
        raise IntegrityError(
            f"{path} is not the wheel that was locked",
            why=f"sha256 {found}, locked {package.sha256}",
            hints=["delete it from the wheelhouse and lock again: provision lock"],
        )
    return path


def _adapter(
    python: Path, plan: Plan, machine: Machine, lock: Lock, settings: IndexSettings, toolkit: str | None, jobs: int | None
) -> Path:
    """Make the 2.x adapter of the plan, from the very sources that the lock names.

    Raise `IntegrityError` when this ``provision`` would make another wheel than the locked one.
    """
    from provisioner.adapter.kernels import RELEASE, AdapterVersion, Kernels
    from provisioner.adapter.locked import check_locked
    from provisioner.adapter.wheel import AdapterOrder, make_adapter

    assert plan.flash_attn is not None
    version = AdapterVersion.parse(plan.flash_attn.version)
    check_locked(lock, version)
    if version.kernels is Kernels.ATEN:
        return make_adapter(AdapterOrder(version)).path
    package = lock.find("flash-attn")
    if package is not None:
        _fetch_sdist(package, RELEASE)
    root = _cuda_root(plan, machine, lock, settings, toolkit)
    order = AdapterOrder(version, python, plan.flash_attn.archs, root, jobs=jobs, index_url=settings.default)
    return make_adapter(order).path


def _fetch_sdist(package: LockedPackage, version: str) -> None:
    """Put the locked sdist where the build looks for it. Raise `IntegrityError` when it is not the known one."""
    from provisioner.building.releases import find_release

    release = find_release(version)
    if release.sha256 != package.sha256:
        raise IntegrityError(
            f"the lock's sdist of flash-attn {release.version} is not the known one",
            why=f"known {release.sha256}",
            hints=["lock again, from another index or mirror: provision lock"],
        )
    place = paths.cache_dir() / "sources" / release.sha256[:16] / release.filename
    download.fetch(package.url, place, sha256=package.sha256, size=release.size)


def _build(
    python: Path, plan: Plan, package: LockedPackage, settings: IndexSettings, root: Path | None, jobs: int | None
) -> Path:
    from provisioner.building.build import BuildOrder, build_flash_attn

    assert plan.flash_attn is not None
    _fetch_sdist(package, plan.flash_attn.version)
    order = BuildOrder(
        python=python,
        archs=plan.flash_attn.archs,
        version=plan.flash_attn.version,
        kernels=plan.flash_attn.kernels or KernelSelection(),
        cuda_root=root,
        jobs=jobs,
        index_url=settings.default,
    )
    return build_flash_attn(order).path
