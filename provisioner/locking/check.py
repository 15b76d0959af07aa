"""Whether a lock is whole in itself, still says what would be chosen today, fits a machine, and is what an environment holds.

Nothing here uses a network: packages are held against the requirements and dependencies that the lock states.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioner import codec
from provisioner.capability import ComputeCapability
from provisioner.locking.conda_part import records_of
from provisioner.locking.lock import plan_of
from provisioner.locking.pypi_part import TORCH_FAMILY
from provisioner.locking.targets import conda_platform
from provisioner.locking.values import MAIN, SOURCE, Lock, LockedPackage
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan


@dataclass(frozen=True, slots=True)
class Drift:
    """One way in which a lock is not, or no longer, right: a stable code, what was seen, and what to do."""

    code: str
    evidence: str
    fix: str


AGAIN = "provision lock -o FILE"
ANEW = "provision create NAME --replace --lock FILE"


def closure(lock: Lock) -> Iterator[Drift]:
    """Yield what the lock lacks in itself: hashes, packages that others need, versions outside of what is required, an edited plan."""
    for package in lock.packages:
        if not package.sha256:
            yield Drift("unhashed", f"{package.name} {package.version} has no sha256", AGAIN)
    yield from _conda_closure(lock.of("conda"))
    yield from _pip_closure(lock)
    plan = plan_of(lock)
    stated = lock.metadata.get("provision-plan-digest")
    if plan is not None and stated != codec.digest(plan):
        yield Drift("plan-edited", "the plan in the lock is not the one that its digest was made of", AGAIN)


def _conda_closure(packages: Iterable[LockedPackage]) -> Iterator[Drift]:
    from rattler import PackageRecord

    try:
        PackageRecord.validate([*records_of(list(packages))])
    except Exception as error:  # its own for a closure, plain ones of its Rust side for a name, version or build that is none
        yield Drift("closure-broken", str(error).strip(), AGAIN)


def _pip_closure(lock: Lock) -> Iterator[Drift]:
    """Yield what the package index's part lacks; in another tool's lock conda's packages may stand for it, under names of their own."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    plan = plan_of(lock)
    there = {package.name: package for package in lock.of("pip")}
    for package in there.values() if plan else ():
        for name in package.dependencies:
            if name not in there:
                yield Drift("closure-broken", f"{package.name} {package.version} needs {name}, which is not locked", AGAIN)
    for text in plan.requirements if plan else ():
        wanted = Requirement(text)
        found = there.get(canonicalize_name(wanted.name))
        if found is None:
            yield Drift("closure-broken", f"the plan requires {text}, which is not locked", AGAIN)
        elif not wanted.specifier.contains(found.version, prereleases=True):
            yield Drift("closure-broken", f"the plan requires {text}; locked is {found.version}", AGAIN)


def against_plan(lock: Lock, fresh: Plan) -> Iterator[Drift]:
    """Yield in what the plan that would be made today differs from the lock's."""
    plan = plan_of(lock)
    if plan is None:
        yield Drift("foreign-lock", "the lock carries no plan: another tool made it", AGAIN)
        return
    names = ("recipe", "overlays", "route", "backend", "python", "torch", "cuda", "xformers", "triton", "torch_index")
    for name in (*names, "requirements", "conda_specs", "activation", "driver_floor"):
        old, new = getattr(plan, name), getattr(fresh, name)
        if old != new:
            yield Drift("plan-drift", f"{name}: locked {_text(old)}, chosen today {_text(new)}", AGAIN)
    old_wheel, new_wheel = plan.flash_attn, fresh.flash_attn
    if (old_wheel and (old_wheel.version, old_wheel.sha256)) != (new_wheel and (new_wheel.version, new_wheel.sha256)):
        shown = [f"{wheel.version} {wheel.filename or ''}".strip() if wheel else "none" for wheel in (old_wheel, new_wheel)]
        yield Drift("plan-drift", f"flash_attn: locked {shown[0]}, chosen today {shown[1]}", AGAIN)


def against_machine(lock: Lock, machine: Machine) -> Iterator[Drift]:
    """Yield why the lock cannot serve ``machine``, as far as its facts are known."""
    platform = conda_platform(machine.platform.machine)
    if platform != lock.platform:
        yield Drift("machine-drift", f"the lock is for {lock.platform}, this machine is {platform}", AGAIN)
    locked = set(filter(None, lock.metadata.get("provision-gpu-classes", "").split(",")))
    here = {ComputeCapability.parse(gpu.compute_capability).sm for gpu in machine.gpus if gpu.compute_capability}
    if locked and here - locked:
        yield Drift("machine-drift", f"the lock is for {', '.join(sorted(locked))}; here is {', '.join(sorted(here))}", AGAIN)
    for what, have, floor in (
        ("driver", machine.driver.version, lock.metadata.get("provision-driver-floor")),
        ("glibc", machine.platform.glibc, lock.metadata.get("provision-glibc")),
    ):
        if have and floor and _numbers(have) < _numbers(floor):
            yield Drift("machine-drift", f"{what} {have} is older than the lock's {floor}", AGAIN)


def against_prefix(lock: Lock, prefix: Path) -> Iterator[Drift]:
    """Yield what in the environment ``prefix`` is not what the lock says: other versions and what is missing."""
    conda, pip = _conda_installed(prefix), _pip_installed(prefix)
    for package in lock.packages:
        if package.category not in (MAIN, SOURCE):
            continue
        found = (conda if package.manager == "conda" else pip).get(package.name)
        if package.manager == "conda" and not conda:
            continue  # the venv backend installs none of them
        if found is None:
            yield Drift("environment-drift", f"{package.name} {package.version} is locked and not installed", ANEW)
        elif not _same(found, package):
            yield Drift("environment-drift", f"{package.name} is {found}; locked is {package.version}", ANEW)


def _same(found: str, package: LockedPackage) -> bool:
    """Say whether the installed version is the locked one, with its build label (``+cu126``) where that tells another build.

    Of torch and its companions a lock without one means that there is none. What is made here gets a label, and flash-attn's release
    wheels state theirs in the file's name alone.
    """
    exact = package.name in TORCH_FAMILY or "+" in package.version
    if exact and package.category != SOURCE and package.name != "flash-attn":
        return found == package.version
    return found.partition("+")[0] == package.version.partition("+")[0]


def _conda_installed(prefix: Path) -> dict[str, str]:
    found = {}
    for path in (prefix / "conda-meta").glob("*.json"):
        record = json.loads(path.read_bytes())
        found[record["name"]] = record["version"]
    return found


def _pip_installed(prefix: Path) -> dict[str, str]:
    from importlib.metadata import distributions

    from packaging.utils import canonicalize_name

    places = [str(path) for path in sorted((prefix / "lib").glob("python3*/site-packages"))]
    named = ((each.metadata["Name"], each.version) for each in distributions(path=places))
    return {canonicalize_name(name): version for name, version in named if name and version}  # one cut off has neither


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
