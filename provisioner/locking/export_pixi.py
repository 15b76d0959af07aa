"""A lock as ``pixi.lock``, version 6: read by pixi, by conda from 26.5 on (version 6 alone) and by rattler, which itself writes version 7 only.

The keys are those of rattler 0.28's reader, which the tests read every file with (2026-11-27).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provisioner.locking.conda_lock_file import scalar
from provisioner.locking.values import Lock, LockedPackage

VERSION = "6"


def pixi_lock(locks: Sequence[Lock]) -> str:
    """Return the text of ``pixi.lock`` for these platforms, one lock each: what the environment holds, as its ``default`` environment.

    What is compiled on the target, and the compiler for it, are left out: pixi would install them as they are.
    """
    parts = sorted(((lock.platform, _held(lock)) for lock in locks), key=lambda part: part[0])
    channels = dict.fromkeys(channel for lock in locks for channel in lock.channels)
    lines = [f"version: {VERSION}", "environments:", "  default:"]
    lines += [
        "    channels:" if channels else "    channels: []",
        *(f"    - url: {scalar(f'{channel}/')}" for channel in channels),
    ]
    lines.append("    packages:")
    for platform, packages in parts:
        lines += [f"      {platform}:", *(f"      - {_kind(package)}: {scalar(package.url)}" for package in packages)]
    files = {package.url: package for _, packages in parts for package in packages}
    lines.append("packages:")
    lines += [line for package in sorted(files.values(), key=_order) for line in _row(package)]
    return "".join(f"{line}\n" for line in lines)


def _held(lock: Lock) -> list[LockedPackage]:
    return sorted((*lock.of("conda"), *lock.of("pip")), key=_order)


def _order(package: LockedPackage) -> tuple[str, str, str]:
    return package.manager, package.name, package.url


def _kind(package: LockedPackage) -> str:
    return "conda" if package.manager == "conda" else "pypi"


def _row(package: LockedPackage) -> Iterator[str]:
    yield f"- {_kind(package)}: {scalar(package.url)}"
    if package.manager == "pip":
        yield f"  name: {scalar(package.name)}"
        yield f"  version: {scalar(package.stated_version)}"
    yield f"  sha256: {scalar(package.sha256)}"
    if package.md5:
        yield f"  md5: {scalar(package.md5)}"
    needed = [f"{name} {spec}".strip() if package.manager == "conda" else name for name, spec in package.dependencies.items()]
    if needed:
        yield "  depends:" if package.manager == "conda" else "  requires_dist:"
        yield from (f"  - {scalar(text)}" for text in sorted(needed))
    if package.manager == "conda" and package.size is not None:
        yield f"  size: {package.size}"
