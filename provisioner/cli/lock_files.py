"""Lock files as `provision lock` takes them where one is there: ours, conda-lock's or pixi's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.locking.values import Lock
    from provisioner.machine.facts import Machine


def read_any(path: Path, machine: Machine | None = None) -> tuple[Lock, str]:
    """Return what a lock file holds, and which tool made it: ``provision``, ``conda-lock`` or ``pixi``.

    Of a pixi.lock it is what is there for ``machine``, this host where None is given. Raise as `read_lock` and `from_pixi` do.
    """
    import platform

    from provisioner.environments.foreign_lock import from_pixi, is_pixi
    from provisioner.locking.conda_lock_file import read_lock
    from provisioner.locking.lock import plan_of
    from provisioner.machine.facts import Machine, Platform

    if path.is_file() and is_pixi(path.read_text(encoding="utf-8", errors="replace")):
        foreign = from_pixi(path, machine or Machine(platform=Platform(machine=platform.machine())))
        return foreign.lock, foreign.made_by
    lock = read_lock(path)
    ours = plan_of(lock) is not None or any(name.startswith("provision-") for name in lock.metadata)
    return lock, "provision" if ours else "conda-lock"
