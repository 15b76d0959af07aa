"""From a plan to a lock: the conda part, the package-index part, the compiler for a build, and flash-attn itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from provisioner import __version__, codec, download, progress
from provisioner.adapter.kernels import RELEASE as ADAPTER_RELEASE
from provisioner.adapter.kernels import AdapterVersion
from provisioner.adapter.locked import ADAPTER, adapter_record
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.knowledge import flash_attn as flash_attn_releases
from provisioner.locking import conda_part, pypi_part, snapshot
from provisioner.locking.requested import REQUEST, recorded
from provisioner.locking.unhashed import hash_by_download
from provisioner.locking.values import MAIN, SOURCE, TOOLCHAIN, Lock, LockedPackage
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan, Request, Route
from provisioner.sdists import find_sdist

UNREACHABLE = "provision-unreachable"

LOWEST_GLIBC = "2.28"
"""Assumed where the target's glibc is unknown: the floor of torch's wheels since 2.6 (manylinux_2_28)."""


@dataclass(frozen=True, slots=True)
class LockOptions:
    """How to lock. ``channels`` empty means: conda-forge where it answers, else the embedded snapshot.

    ``toolchain`` are requirements for the package index's CUDA compiler, empty where the build uses another. What ``previous`` has stays
    where it can, except the names in ``moving``. With ``conda_needed`` a conda part that cannot be had is an error whatever the backend.
    ``request`` is recorded in the lock.
    """

    channels: tuple[str, ...] = ()
    exclude_newer: datetime | None = None
    toolchain: tuple[str, ...] = ()
    conda: bool = True
    conda_needed: bool = False
    previous: Lock | None = None
    moving: tuple[str, ...] = ()
    request: Request | None = None


def make_lock(plan: Plan, machine: Machine, settings: IndexSettings, options: LockOptions) -> Lock:
    """Return the lock that carries out ``plan`` on ``machine``. The same inputs give an equal lock.

    Raise `NoRoute` when packages cannot go together, `SourceUnreachable` when a source does not answer,
    `IntegrityError` when a hash cannot be had.
    """
    target = target_of(plan, machine)
    conda = _conda(plan, machine, target, options)
    with progress.task("resolving packages"):
        packages = _index_packages(plan, target, settings, options)
    if options.toolchain:
        packages += pypi_part.resolve(
            options.toolchain,
            target,
            settings,
            exclude_newer=options.exclude_newer,
            category=TOOLCHAIN,
            find_links=False,
            previous=_versions(options.previous, TOOLCHAIN),
            moving=options.moving,
        )
    flash_attn = lock_flash_attn(plan, target, settings, options.exclude_newer)
    return Lock(
        platform=target.platform,
        packages=(*conda.packages, *packages, *flash_attn),
        channels=conda.channels,
        metadata=_metadata(plan, target, conda, machine, options),
    )


def target_of(plan: Plan, machine: Machine) -> pypi_part.Target:
    """Return what is locked for: the plan's Python on the machine's processor and glibc."""
    return pypi_part.Target(plan.python, machine.platform.machine or "x86_64", machine.platform.glibc or LOWEST_GLIBC)


def plan_of(lock: Lock) -> Plan | None:
    """Return the plan that a lock of ours carries, None for a lock made by another tool."""
    text = lock.metadata.get("provision-plan")
    return codec.from_json(text, Plan, what="the lock's plan") if text else None


def _conda(plan: Plan, machine: Machine, target: pypi_part.Target, options: LockOptions) -> conda_part.CondaSolution:
    if not options.conda or not plan.conda_specs:
        return conda_part.CondaSolution((), ())
    if (kept := _kept_conda(plan, options)) is not None:
        return kept
    virtual = conda_part.Virtual(_virtual_cuda(plan, machine), target.glibc, archspec=target.machine)
    before = options.previous.of("conda") if options.previous else ()
    previous = tuple(package for package in before if package.name not in options.moving)
    named = options.channels or _earlier_channels(options.previous)
    live = named or (conda_part.default_channels() if machine.answers("conda-channel") else ())
    how: dict[str, Any] = {
        "platform": target.platform,
        "virtual": virtual,
        "exclude_newer": options.exclude_newer,
        "previous": previous,
    }
    if live:
        try:
            with progress.task(f"solving against {', '.join(live)}"):
                return conda_part.solve_live(plan.conda_specs, live, **how)
        except SourceUnreachable as error:
            if named or target.platform != snapshot.PLATFORM:
                raise
            progress.note(f"{error.what}: {error.why}")
    try:
        solution = conda_part.solve_snapshot(plan.conda_specs, **how)
    except (NoRoute, SourceUnreachable) as error:
        if plan.backend == "conda" or options.conda_needed:
            raise
        progress.note(f"no conda part in this lock: {error.what}" + "".join(f" ({hint})" for hint in error.hints[:1]))
        return conda_part.CondaSolution((), ())
    progress.note(f"no conda channel answers: the conda part is solved from the embedded snapshot of {solution.snapshot_date}")
    return solution


def _earlier_channels(lock: Lock | None) -> tuple[str, ...]:
    """Return the channels that an earlier lock was solved against; none when that was the snapshot."""
    return lock.channels if lock and lock.of("conda") and "provision-snapshot" not in lock.metadata else ()


def _kept_conda(plan: Plan, options: LockOptions) -> conda_part.CondaSolution | None:
    """Return the earlier lock's conda part when the plan asks for the same and nothing in it is to move; None otherwise."""
    before = options.previous
    earlier = plan_of(before) if before else None
    if before is None or earlier is None or options.channels or earlier.conda_specs != plan.conda_specs:
        return None
    packages = before.of("conda")
    if not packages or any(package.name in options.moving for package in packages):
        return None
    return conda_part.CondaSolution(packages, before.channels, before.metadata.get("provision-snapshot"))


def _versions(lock: Lock | None, category: str = MAIN) -> dict[str, str]:
    """Return the versions of an earlier lock's package-index part, by name."""
    return {package.name: package.version for package in lock.of("pip", category)} if lock else {}


def _virtual_cuda(plan: Plan, machine: Machine) -> str | None:
    """Return what ``__cuda`` is on the target: what its driver offers, else what the plan's CUDA needs at least."""
    return machine.driver.cuda or plan.cuda


def _index_packages(
    plan: Plan, target: pypi_part.Target, settings: IndexSettings, options: LockOptions
) -> tuple[LockedPackage, ...]:
    own_tools = ("pip",) if plan.backend == "venv" else ()  # so that `pip` in the environment is the environment's

    def resolved(find_links: bool) -> tuple[LockedPackage, ...]:
        return pypi_part.resolve(
            [*plan.requirements, *own_tools],
            target,
            settings,
            torch_index=plan.torch_index,
            exclude_newer=options.exclude_newer,
            find_links=find_links,
            previous=_versions(options.previous),
            moving=options.moving,
        )

    failed: NoRoute | None = None
    try:
        packages = resolved(True)
        wrong = wrong_torch(plan, packages)
    except NoRoute as error:  # a find-links folder's torch+cpu sorts above the index's torch, and nothing else goes with it
        if not settings.find_links:
            raise
        failed, packages, wrong = error, (), "nothing fits together"
    if wrong is not None and settings.find_links:
        try:
            without = resolved(False)
        except NoRoute as error:  # what only lies there is missing then, which would hide why it does not fit
            raise failed or error from error
        progress.note(f"{wrong}; the find-links of your pip settings are left out")
        packages, wrong = without, wrong_torch(plan, without)
    if wrong is not None:
        raise NoRoute(
            wrong,
            why="the index serves another build of torch than the plan needs",
            hints=[
                "use an index that has it: --mirror NAME, or PROVISION_TORCH_INDEX for PyTorch's own",
                "or plan for what is there: --cuda X.Y",
            ],
            code="torch-build-mismatch",
        )
    return packages


def wrong_torch(plan: Plan, packages: Sequence[LockedPackage]) -> str | None:
    """Say how the resolved torch differs from the plan's CUDA build; None when it is the right one.

    A wheelhouse may hold ``2.13.0+cpu``, which satisfies ``torch==2.13.0`` and sorts above the index's ``2.13.0`` (PEP 440).
    An unlabelled torch is told by the CUDA runtime that it pulls in.
    """
    torch = next((package for package in packages if package.name == "torch"), None)
    if torch is None or plan.cuda is None:
        return None
    wanted = plan.cuda.split(".")[:2]
    label = torch.version.partition("+")[2]
    if label:
        return None if label == "cu" + "".join(wanted) else f"torch {torch.version} is not a build for CUDA {plan.cuda}"
    runtimes = [package for package in packages if package.name.startswith("nvidia-cuda-runtime")]
    if not runtimes:
        return f"torch {torch.version} from {download.redact(torch.url)} is a CPU build"
    if runtimes[0].version.split(".")[:2] != wanted:
        return f"torch {torch.version} is a build for CUDA {'.'.join(runtimes[0].version.split('.')[:2])}, not {plan.cuda}"
    return None


def lock_flash_attn(
    plan: Plan, target: pypi_part.Target, settings: IndexSettings, exclude_newer: datetime | None = None
) -> tuple[LockedPackage, ...]:
    """Return the plan's flash-attn as a locked file: its wheel, or the sdist that it is built from; empty where it has none.

    Raise `SourceUnreachable` when the index lacks the sdist, `IntegrityError` when its hash is not the known one and `NoRoute` when it
    was released after ``exclude_newer``.
    """
    chosen = plan.flash_attn
    if chosen is None or plan.route is Route.NONE:
        return ()
    if exclude_newer is not None and plan.route is not Route.SHIM:
        _check_released(chosen.version, exclude_newer)
    if plan.route is Route.SHIM and chosen.sha256 is None:
        return ()  # made from this project's own files: its digests are in the metadata (`provisioner.adapter.locked`)
    if plan.route is not Route.WHEEL:
        source = ADAPTER_RELEASE if plan.route is Route.SHIM else chosen.version
        file = find_sdist("flash-attn", source, settings)
        if chosen.sha256 and file.sha256 and file.sha256 != chosen.sha256:
            raise IntegrityError(
                f"the index's sdist of flash-attn {source} is not the known one",
                why=f"sha256 {file.sha256}, known {chosen.sha256}",
                hints=["use another index or mirror"],
            )
        sha256, url = chosen.sha256 or file.sha256, file.url
    else:
        if chosen.url is None:
            raise NoRoute(
                f"the plan names no URL for flash-attn {chosen.version}", hints=["plan again: provision plan"], code="bad-plan"
            )
        url = chosen.url
        sha256 = chosen.sha256 or hash_by_download(url)
    if sha256 is None:
        raise IntegrityError(
            f"no sha256 is known for flash-attn {chosen.version}",
            hints=["use an index that states hashes: --mirror NAME", "or another release: --flash-attn VERSION"],
            code="hash-unknown",
        )
    return (
        LockedPackage(
            name="flash-attn",
            version=chosen.version,
            manager="pip",
            platform=target.platform,
            url=url,
            sha256=sha256,
            category=MAIN if plan.route is Route.WHEEL else SOURCE,
            dependencies={"torch": "*"} if plan.route is Route.SHIM else {"torch": "*", "einops": "*"},
        ),
    )


def _check_released(version: str, exclude_newer: datetime) -> None:
    """Raise `NoRoute` for a flash-attn whose release, by the knowledge table, is younger than the date; wheels came no earlier."""
    release = flash_attn_releases.release(version)
    if release is None or release.released <= exclude_newer.date().isoformat():
        return
    older = next(
        (each.version for each in flash_attn_releases.releases() if each.released <= exclude_newer.date().isoformat()), None
    )
    raise NoRoute(
        f"flash-attn {release.version} was released on {release.released}, after --exclude-newer {exclude_newer:%Y-%m-%d}",
        why="the plan chooses it for this machine, and nothing newer than the date may be taken",
        hints=[f"--exclude-newer {release.released} or later", *([f"or an older one: --flash-attn {older}"] if older else [])],
        code="unsolvable",
    )


def _unreachable(plan: Plan, machine: Machine, previous: Lock | None) -> str | None:
    """Return the sources that did not answer when that cost the plan a candidate: a fact that the choice rests on."""
    if previous is not None and not plan.candidates:  # the earlier lock's own plan
        return previous.metadata.get(UNREACHABLE)
    if not any(candidate.code == "source-unreachable" for candidate in plan.candidates):
        return None
    return ",".join(sorted({source.name for source in machine.sources if machine.answers(source.name) is False}))


def _metadata(
    plan: Plan, target: pypi_part.Target, conda: conda_part.CondaSolution, machine: Machine, options: LockOptions
) -> dict[str, str]:
    bare = dataclasses.replace(plan, candidates=())
    known = {
        "provision-version": __version__,
        "provision-recipe": "+".join((plan.recipe, *plan.overlays)),
        "provision-route": plan.route,
        "provision-gpu-classes": ",".join(plan.gpu_classes),
        "provision-driver-floor": plan.driver_floor,
        "provision-glibc": target.glibc,
        "provision-python": plan.python,
        "provision-cuda": plan.cuda,
        "provision-snapshot": conda.snapshot_date,
        "provision-exclude-newer": options.exclude_newer.isoformat() if options.exclude_newer else None,
        UNREACHABLE: _unreachable(plan, machine, options.previous),
        REQUEST: recorded(options.request),
        "provision-plan-digest": codec.digest(bare),
        "provision-plan": json.dumps(codec.to_builtins(bare), separators=(",", ":"), sort_keys=True),
    }
    if plan.route is Route.SHIM and plan.flash_attn is not None:
        known[ADAPTER] = adapter_record(AdapterVersion.parse(plan.flash_attn.version))
    return {name: str(value) for name, value in known.items() if value}
