"""One lock for several targets: platforms and GPU classes.

conda-lock's file tells packages apart by manager, name and platform alone; of two versions that stand in different categories it
silently takes the first (``lockfile_v1_to_v2`` of 4.0.3, read 2026-11-25). So one file may hold several platforms, and several GPU
classes as long as they share every package; classes whose packages differ get a file each, named by the class.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provisioner.capability import ComputeCapability
from provisioner.errors import UsageError
from provisioner.locking.values import Lock
from provisioner.machine.facts import Machine

TARGETS = "provision-targets"
CLASSES = "provision-gpu-classes"


@dataclass(frozen=True, slots=True)
class Target:
    """A platform with the GPU classes that its packages are for; ``str`` gives ``linux-64+sm_80+sm_90``."""

    platform: str
    gpu_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "+".join((self.platform, *self.gpu_classes))

    @classmethod
    def parse(cls, text: str) -> Target:
        """Return the target of that name."""
        platform, *classes = text.split("+")
        return cls(platform, tuple(classes))


def conda_platform(processor: str | None) -> str:
    """Return the conda platform of a Linux processor."""
    return "linux-64" if processor in (None, "x86_64") else f"linux-{processor}"


def target_of_lock(lock: Lock) -> Target:
    """Return what a lock for a single target is for."""
    return Target(lock.platform, tuple(lock.metadata.get(CLASSES, "").split(",")) if lock.metadata.get(CLASSES) else ())


def targets(lock: Lock) -> tuple[Target, ...]:
    """Return every target of a lock; one without our metadata has its platforms, for no GPU class in particular."""
    if named := lock.metadata.get(TARGETS):
        return tuple(Target.parse(text) for text in named.split(" "))
    if lock.platforms:
        return tuple(Target(platform) for platform in lock.platforms)
    return (target_of_lock(lock),)


def joined(locks: Sequence[Lock]) -> tuple[Lock, ...]:
    """Return as few locks as hold all of these single-target ones: classes with the same packages on each platform share one."""
    by_class: dict[tuple[str, ...], dict[str, Lock]] = {}
    for lock in locks:
        by_class.setdefault(target_of_lock(lock).gpu_classes, {})[lock.platform] = lock
    groups: list[list[Lock]] = []
    for platforms in by_class.values():
        for group in groups:
            if _compatible(group, platforms.values()):
                group.extend(platforms.values())
                break
        else:
            groups.append(list(platforms.values()))
    return tuple(_one(group) for group in groups)


def _compatible(group: Iterable[Lock], others: Iterable[Lock]) -> bool:
    packages = {lock.platform: lock.packages for lock in group}
    return all(packages.get(lock.platform) == lock.packages for lock in others)


def _one(locks: Sequence[Lock]) -> Lock:
    """Return one lock for all of these; facts in which they differ stand as ``name@target``."""
    if len(locks) == 1:
        return locks[0]
    names = [str(target_of_lock(lock)) for lock in locks]
    metadata = {TARGETS: " ".join(names)}
    for key in dict.fromkeys(key for lock in locks for key in lock.metadata):
        values = [lock.metadata.get(key) for lock in locks]
        if len(set(values)) == 1 and values[0] is not None:
            metadata[key] = values[0]
            continue
        metadata |= {f"{key}@{name}": value for name, value in zip(names, values, strict=True) if value is not None}
    platforms = tuple(dict.fromkeys(lock.platform for lock in locks))
    of_platform = {lock.platform: lock.packages for lock in locks}
    rows = tuple(package for platform in platforms for package in of_platform[platform])
    channels = tuple(dict.fromkeys(channel for lock in locks for channel in lock.channels))
    return Lock(platforms[0], rows, channels, metadata, platforms if len(platforms) > 1 else ())


def single(lock: Lock, target: Target) -> Lock:
    """Return the part of a lock that is for ``target``, as if it had been locked alone."""
    suffix = f"@{target}"
    metadata = {key: value for key, value in lock.metadata.items() if "@" not in key and key != TARGETS}
    metadata |= {key.removesuffix(suffix): value for key, value in lock.metadata.items() if key.endswith(suffix)}
    packages = tuple(package for package in lock.packages if package.platform == target.platform)
    return replace(lock, platform=target.platform, packages=packages, metadata=metadata, platforms=())


def lock_for(lock: Lock, machine: Machine) -> Lock:
    """Return the part of a lock that is for ``machine``: its platform, and a GPU class that covers all of its GPUs.

    A lock for one target is returned as it is. Raise `UsageError` saying what the lock is for when none fits.
    """
    known = targets(lock)
    if len(known) == 1:
        return lock if not lock.metadata.get(TARGETS) else single(lock, known[0])
    platform = conda_platform(machine.platform.machine)
    gpus = {ComputeCapability.parse(gpu.compute_capability).sm for gpu in machine.gpus if gpu.compute_capability}
    fitting = [target for target in known if target.platform == platform and gpus <= set(target.gpu_classes or gpus)]
    if not fitting:
        wanted = str(Target(platform, tuple(sorted(gpus))))
        raise UsageError(
            f"the lock has nothing for this machine ({wanted})",
            why=f"it is for {', '.join(map(str, known))}",
            hints=["lock for this machine as well: provision lock --platform … --gpu-class …"],
            code="lock-lacks-target",
        )
    return single(lock, fitting[0])


def file_of(path: Path, lock: Lock, count: int) -> Path:
    """Return where one of ``count`` locks goes: ``path`` itself when it is the only one, else ``path`` with its GPU classes before the name.

    micromamba takes a lock file by the end of its name, ``-lock.yml``, which is therefore kept.
    """
    if count == 1:
        return path
    classes = dict.fromkeys(name for target in targets(lock) for name in target.gpu_classes)
    return path.with_name(f"{'-'.join(classes) or 'no-gpu'}.{path.name}")
