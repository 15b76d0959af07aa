"""What changed between two locks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.locking.values import Lock, LockedPackage

FACTS = ("recipe", "route", "gpu-classes", "driver-floor", "glibc", "python", "cuda", "snapshot", "exclude-newer", "unreachable")
"""The facts of ``custom_metadata`` whose change is worth a line; the plan itself shows in the packages."""


@dataclass(frozen=True, slots=True)
class Change:
    """One package or fact that differs; ``old`` or ``new`` is None where only one lock has it.

    ``what`` is ``conda``, ``pip`` or ``fact``. A package whose version stayed but whose file did not shows its build or hash.
    """

    what: str
    name: str
    platform: str
    old: str | None
    new: str | None


def changes(old: Lock, new: Lock) -> tuple[Change, ...]:
    """Return every difference: facts first, then packages by manager, name and platform."""
    return (*_facts(old, new), *_packages(old, new))


def _facts(old: Lock, new: Lock) -> Iterator[Change]:
    """Yield the facts that differ; another tool's lock states none."""
    if not (old.metadata and new.metadata):
        return
    for name in FACTS:
        key = f"provision-{name}"
        before, after = old.metadata.get(key), new.metadata.get(key)
        if before != after:
            yield Change("fact", name, "", before, after)


def _packages(old: Lock, new: Lock) -> Iterator[Change]:
    before, after = _by_key(old), _by_key(new)
    for key in sorted({*before, *after}):
        was, now = before.get(key), after.get(key)
        if was and now and (was.url, was.sha256) == (now.url, now.sha256):
            continue
        exact = was is not None and now is not None and was.version == now.version
        yield Change(key[0], key[1], key[2], _shown(was, exact), _shown(now, exact))


def _by_key(lock: Lock) -> dict[tuple[str, str, str, str], LockedPackage]:
    return {(package.manager, package.name, package.platform, package.category): package for package in lock.packages}


def _shown(package: LockedPackage | None, exact: bool) -> str | None:
    if package is None:
        return None
    return f"{package.version} ({package.build or package.sha256[:12]})" if exact else package.version
