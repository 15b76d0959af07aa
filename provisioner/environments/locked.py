"""A lock file as `create` and `bundle` take it: the exact files, and the plan that says what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.locking.conda_lock_file import read_lock
from provisioner.locking.lock import plan_of
from provisioner.locking.values import Lock, LockedPackage
from provisioner.planning.values import Plan


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock file holds. ``made_by`` names the tool that wrote it."""

    lock: Lock
    plan: Plan
    made_by: str = "provision"

    @property
    def needed(self) -> tuple[LockedPackage, ...]:
        """The files that `create` uses, in lock order: a venv takes its Python from the host and no conda packages."""
        conda = self.plan.backend == "conda"
        return tuple(package for package in self.lock.packages if conda or package.manager == "pip")


def read_locked(path: Path) -> Locked:
    """Return what the lock file ``path`` holds. Raise `UsageError` when it cannot be read or carries no plan."""
    lock = read_lock(path)
    plan = plan_of(lock)
    if plan is None:
        raise UsageError(
            f"{path} carries no plan of ours",
            why="another tool made it, so nothing says which flash-attn and GPUs it is for",
            hints=[f"provision lock -o {path}"],
            code="foreign-lock",
        )
    return Locked(lock, plan)
