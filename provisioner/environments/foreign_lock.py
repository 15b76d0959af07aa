"""Locks that other tools wrote: what conda-lock or pixi resolved, taken as it is.

There is no plan behind them, so the one made here only states what they hold: nothing was chosen by a recipe. What cannot be carried
out exactly (no sha256, another platform, a path or a repository instead of a file) is refused with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from provisioner.errors import IntegrityError, UsageError
from provisioner.locking.values import MAIN, Lock, LockedPackage, build_of
from provisioner.machine.facts import Machine
from provisioner.planning.values import FlashAttn, Plan, Route, Trust

RECIPE = "as-locked"
"""The recipe's name in the plan of a lock that another tool wrote."""

INSTALLED = (MAIN, "dev")
"""The categories of a conda-lock.yml that `conda-lock install` installs unless told otherwise (its 4.0 help, read 2026-11-25)."""

PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64", None: "linux-64"}


@dataclass(frozen=True, slots=True)
class ForeignLock:
    """The packages of a foreign lock for one platform. ``made_by`` is ``conda-lock`` or ``pixi``."""

    lock: Lock
    made_by: str


def is_pixi(text: str) -> bool:
    """Say whether a lock file is pixi's: it has a version and environments at its top level."""
    return bool(re.search(r"^version: *\d", text, re.MULTILINE) and re.search(r"^environments:", text, re.MULTILINE))


def from_conda_lock(lock: Lock, path: Path, machine: Machine) -> ForeignLock:
    """Return what a ``conda-lock.yml`` of conda-lock's holds for this machine. Raise as `_checked` does."""
    platform = _platform(machine)
    there = sorted({package.platform for package in lock.packages})
    _check_platform(path, platform, there)
    mine = [
        replace(package, name=_normalised(package), category=MAIN)
        for package in lock.packages
        if package.platform == platform and package.category in INSTALLED
    ]
    return ForeignLock(Lock(platform, _checked(path, mine), lock.channels), "conda-lock")


def from_pixi(path: Path, machine: Machine) -> ForeignLock:
    """Return what the ``default`` environment of a ``pixi.lock`` holds for this machine (any version that rattler reads: 4 to 7).

    Raise `UsageError` when it cannot be read or has no such environment, else as `_checked` does.
    """
    from rattler import LockFile

    try:
        content = LockFile.from_path(path)
        environments = dict(content.environments())
    except Exception as error:  # rattler raises plain exceptions from its Rust side
        raise UsageError(
            f"{path} is not a pixi.lock that can be read: {error}", hints=["write it again: pixi lock"], code="bad-lock"
        ) from error
    if (environment := environments.get("default")) is None:
        raise UsageError(
            f"{path} has no environment `default`",
            why=f"it has: {', '.join(environments) or 'none'}",
            hints=["give the environment that name in the pixi manifest, and lock again"],
            code="bad-lock",
        )
    by_platform: dict[str, Any] = {}
    for target, found in environment.packages_by_platform().items():
        by_platform.setdefault(str(target.subdir), found)  # several of one kind (CUDA versions): the first, as pixi lists them
    platform = _platform(machine)
    _check_platform(path, platform, sorted(by_platform))
    packages = [_pixi_package(package, platform) for package in by_platform[platform]]
    channels = tuple(str(channel).rstrip("/") for channel in _channel_urls(packages))
    return ForeignLock(Lock(platform, _checked(path, packages), channels), "pixi")


def _platform(machine: Machine) -> str:
    return PLATFORMS.get(machine.platform.machine, f"linux-{machine.platform.machine}")


def _check_platform(path: Path, wanted: str, there: Sequence[str]) -> None:
    if wanted not in there:
        raise UsageError(
            f"{path} was not locked for {wanted}",
            why=f"it holds {', '.join(there) or 'nothing'}",
            hints=[f"add {wanted} where it was made, and lock again"],
            code="lock-platform",
        )


def _pixi_package(package: Any, platform: str) -> LockedPackage:
    """Return a package of rattler's; what it lacks stays empty, and `_checked` says so."""
    from rattler.lock import PypiLockedPackage

    record = None if isinstance(package, PypiLockedPackage) else getattr(package, "package_record", None)
    located = LockedPackage(
        name=package.name,
        version=str(package.version),
        manager="pip" if isinstance(package, PypiLockedPackage) else "conda",
        platform=platform,
        url=package.location.split("#", 1)[0],
        sha256=_hash(package, "sha256") or "",
        md5=_hash(package, "md5"),
    )
    if record is None:
        return replace(located, name=_normalised(located))
    depends = dict((*text.split(" ", 1), "")[:2] for text in record.depends)
    return replace(located, build=build_of(located.filename), size=record.size, dependencies=depends)


def _hash(package: Any, kind: str) -> str | None:
    with suppress(AttributeError):  # py-rattler 0.28 raises it where the lock has no hash at all (seen 2026-11-25)
        value: bytes | None = getattr(package.hashes, kind)
        return value.hex() if value else None
    return None


def _normalised(package: LockedPackage) -> str:
    """Return the name as the package index spells it (PEP 503); conda's names are kept."""
    return re.sub(r"[-_.]+", "-", package.name).lower() if package.manager == "pip" else package.name


def _channel_urls(packages: Iterable[LockedPackage]) -> Iterator[str]:
    urls = (package.url.rsplit("/", 2)[0] for package in packages if package.manager == "conda" and "://" in package.url)
    return iter(dict.fromkeys(urls))


def _checked(path: Path, packages: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Return the packages if every one is an exact file; raise `UsageError` or `IntegrityError` naming the first that is not."""
    for package in packages:
        if urlsplit(package.url).scheme not in ("http", "https", "file") or not _is_package_file(package.filename):
            raise UsageError(
                f"{path} takes {package.name} from {package.url}, which is no package file",
                why="what a folder or a repository holds may change, so nothing says that it is what was locked",
                hints=[
                    "build a wheel of it, serve that, and lock again",
                    f"or leave {package.name} out and install it afterwards",
                ],
                code="unlockable-package",
            )
        if not package.sha256:
            raise IntegrityError(
                f"{path} gives no sha256 for {package.name} {package.version}",
                why="nothing unhashed is installed (md5 alone can be forged)",
                hints=["lock again with a channel or index that publishes sha256"],
                code="hash-unknown",
            )
    return tuple(packages)


def _is_package_file(filename: str) -> bool:
    return filename.endswith((".whl", ".tar.gz", ".zip", ".conda", ".tar.bz2"))


def plan_for(foreign: ForeignLock, path: Path, machine: Machine) -> Plan:
    """Return the plan that says what a foreign lock holds. Raise `UsageError` when it holds no Python, or flash-attn as a source."""
    lock = foreign.lock
    python = lock.find("python", "conda")
    if python is None:
        raise UsageError(f"{path} holds no Python", hints=["add python to what is locked"], code="no-python-in-lock")
    torch, cuda = lock.find("torch") or lock.find("pytorch", "conda"), _cuda(lock)
    chosen = _flash_attn(lock, path)
    xformers, triton = lock.find("xformers"), lock.find("triton")
    notes = [f"made by {foreign.made_by} and installed as it is: no recipe chose these versions"]
    if built := [package.filename for package in lock.of("pip") if not package.filename.endswith(".whl")]:
        notes.append(f"built here by their own build systems, whose needs no lock pins: {', '.join(built)}")
    return Plan(
        recipe=RECIPE,
        route=Route.WHEEL if chosen else Route.NONE,
        python=".".join(python.version.split(".")[:2]),
        torch=torch.version.partition("+")[0] if torch else "",
        cuda=cuda,
        flash_attn=chosen,
        xformers=xformers.version if xformers else None,
        triton=triton.version if triton else None,
        attention="flash-attn" if chosen else "xformers" if xformers else "sdpa",
        gpu_classes=tuple(dict.fromkeys(gpu.capability.sm for gpu in machine.gpus if gpu.capability)),
        requirements=tuple(f"{package.name}=={package.version}" for package in lock.of("pip")),
        notes=tuple(notes),
        backend="conda",
    )


def _flash_attn(lock: Lock, path: Path) -> FlashAttn | None:
    wheel, conda = lock.find("flash-attn"), lock.find("flash-attn", "conda")
    if wheel is not None and not wheel.filename.endswith(".whl"):
        raise UsageError(
            f"{path} holds flash-attn {wheel.version} as a source distribution",
            why="a foreign lock does not say with which compiler, kernels and torch it is to be built",
            hints=["provision lock, which does", "or leave flash-attn out there, then: provision install --env NAME"],
            code="sdist-in-lock",
        )
    found = wheel or conda
    if found is None:
        return None
    trust = Trust.COMMUNITY if wheel else Trust.CONDA_FORGE
    return FlashAttn(found.version, found.url, found.sha256, filename=found.filename, trust=trust)


def _cuda(lock: Lock) -> str | None:
    """Return torch's CUDA as far as a lock tells: its label, the CUDA runtime beside it, or the build string of conda's pytorch."""
    torch, pytorch = lock.find("torch"), lock.find("pytorch", "conda")
    label = re.fullmatch(r"cu(\d+)(\d)", torch.version.partition("+")[2]) if torch else None
    if label:
        return f"{label[1]}.{label[2]}"
    for package in lock.packages:
        if package.name.startswith("nvidia-cuda-runtime") or (pytorch and package.name == "cuda-version"):
            return ".".join(package.version.split(".")[:2])
    built = re.search(r"cuda(\d{2})(\d)", pytorch.build or "") if pytorch else None
    return f"{built[1]}.{built[2]}" if built else None
