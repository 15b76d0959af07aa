"""A lock file as `create` and `bundle` take it: the exact files, and the plan that says what they are for."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from provisioner.environments.foreign_lock import from_conda_lock, from_pixi, is_pixi, plan_for
from provisioner.errors import IntegrityError, NoRoute
from provisioner.locking.check import against_machine
from provisioner.locking.conda_lock_file import read_lock
from provisioner.locking.lock import plan_of
from provisioner.locking.targets import lock_for
from provisioner.locking.values import Lock, LockedPackage
from provisioner.machine.facts import Machine, Platform
from provisioner.planning.values import Plan


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock file holds. ``made_by`` names the tool that wrote it: ``provision``, ``conda-lock`` or ``pixi``."""

    lock: Lock
    plan: Plan
    made_by: str = "provision"

    @property
    def needed(self) -> tuple[LockedPackage, ...]:
        """The files that `create` uses, in lock order: a venv takes its Python from the host and no conda packages."""
        conda = self.plan.backend == "conda"
        return tuple(package for package in self.lock.packages if conda or package.manager == "pip")


def _check_hashes(lock: Lock) -> None:
    for package in lock.packages:
        if not package.sha256:
            raise IntegrityError(
                f"{package.name} {package.version} is locked without a sha256",
                why="nothing unhashed is installed, and our locks state every file's: this one was edited",
                hints=["take the lock as it was written, or lock anew: provision lock -o FILE"],
                code="unhashed",
            )


def check_for(lock: Lock, machine: Machine) -> None:
    """Raise `NoRoute` where ``lock`` cannot serve ``machine``: for another processor, GPU, driver or C library."""
    if drifts := list(against_machine(lock, machine)):
        raise NoRoute(
            drifts[0].evidence,
            why="; ".join(drift.evidence for drift in drifts[1:]) or None,
            hints=["lock for this machine: provision lock -o FILE", "or plan without a lock: leave --lock out"],
            code=drifts[0].code,
        )


def read_locked(path: Path, machine: Machine | None = None) -> Locked:
    """Return what the lock file ``path`` holds: ours with its plan, or conda-lock's or pixi's as it is.

    A lock for several targets, or a foreign one, is read for ``machine``; None means one like this host. Raise `UsageError` when it cannot be read or carried out,
    `IntegrityError` when it lacks a hash.
    """
    machine = machine or Machine(platform=Platform(machine=platform.machine()))
    if path.is_file() and is_pixi(path.read_text(errors="replace")):
        foreign = from_pixi(path, machine)
    else:
        lock = lock_for(read_lock(path), machine)
        if (plan := plan_of(lock)) is not None:
            _check_hashes(lock)
            return Locked(lock, plan)
        foreign = from_conda_lock(lock, path, machine)
    return Locked(foreign.lock, plan_for(foreign, path, machine), foreign.made_by)
