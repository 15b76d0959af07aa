"""Packages that are there twice: in one folder (an interrupted update), across folders (user site, PYTHONPATH), or in conda's eyes only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import attic, set_aside
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Copy, Inventory


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield a finding per package with several copies, and one per place outside the environment that packages come from."""
    for name, copies in inventory.packages.items():
        beside = [copy for copy in copies if copy.location == copies[0].location]
        if len(beside) > 1 and not _told_twice(beside):
            yield _two_records(inventory, name, tuple(beside))
    yield from _from_outside(inventory)
    yield from _over_conda(inventory)


def _told_twice(copies: Sequence[Copy]) -> bool:
    """Say whether the records are one package's: Debian keeps an .egg-info beside a .dist-info of the same version."""
    return len({copy.version for copy in copies}) == 1 and any(copy.metadata.endswith(".egg-info") for copy in copies)


def _is_own(inventory: Inventory, path: str) -> bool:
    """Say whether ``path`` lies in a virtual or conda environment that is examined: the system's files are its package manager's."""
    prefix = Path(inventory.python.prefix)
    return Path(path).is_relative_to(prefix) and ((prefix / "pyvenv.cfg").is_file() or (prefix / "conda-meta").is_dir())


def _two_records(inventory: Inventory, name: str, copies: tuple[Copy, ...]) -> Candidate:
    stale = _stale(copies)
    mixed = len({copy.installer for copy in copies}) > 1
    title = f"{name} is installed twice in one folder: {', '.join(copy.version for copy in copies)}" + (
        " (by several installers)" if mixed else ""
    )
    evidence = tuple(f"{copy.metadata} (by {copy.installer or 'unknown'}){_matching(copy)}" for copy in copies)
    fix = Fix(
        f"take away the record of {stale.version}, whose files are no longer there (put back from {attic(inventory)})",
        set_aside(inventory, stale.metadata),
        Safety.REVERSIBLE,
        automatic=_is_own(inventory, stale.metadata),
    )
    return Candidate("duplicate-package", 48, Severity.ERROR, title, evidence, fix)


def _matching(copy: Copy) -> str:
    return "" if copy.matches is None else f": {copy.matches:.0%} of its files are as it states"


def _stale(copies: tuple[Copy, ...]) -> Copy:
    """The record to take away: the one of which the fewest files are as it states; of equals the older."""
    from packaging.version import InvalidVersion, Version

    def age(copy: Copy) -> Version:
        try:
            return Version(copy.version)
        except InvalidVersion:
            return Version("0")

    return min(copies, key=lambda copy: (copy.matches or 0.0, -copy.missing_count, age(copy)))


def _from_outside(inventory: Inventory) -> Iterator[Candidate]:
    """Packages imported from the user site or from PYTHONPATH: whether or not the environment has its own."""
    user = inventory.python.user_site
    extra = [os.path.normpath(entry) for entry in inventory.variables.get("PYTHONPATH", "").split(":") if entry]
    shadowed: dict[str, list[str]] = {}
    for name, (first, *others) in inventory.packages.items():
        own = next((copy for copy in others if copy.location != first.location), None)
        if (user and first.location == user) or first.location in extra:
            there = f", instead of {own.version} in {own.location}" if own else ""
            shadowed.setdefault(first.location, []).append(f"{name} {first.version} comes from {first.location}{there}")
        elif own is not None and not first.location.startswith(inventory.python.prefix):  # its own copy first is as it should be
            line = f"{name} {first.version} is imported, another copy ({own.version}) lies in {own.location}"
            shadowed.setdefault(own.location, []).append(line)
    for place, lines in shadowed.items():
        yield _leak(place, lines, is_user=place == user, from_variable=place in extra)


def _leak(place: str, lines: list[str], *, is_user: bool, from_variable: bool) -> Candidate:
    title = lines[0] + (f"; {len(lines) - 1} more like it" if len(lines) > 1 else "")
    if is_user:
        fix = Fix("keep the user site out of environments", "export PYTHONNOUSERSITE=1", Safety.REVERSIBLE)
        return Candidate("user-site-leak", 60, Severity.WARNING, title, tuple(lines[:4]), fix)
    if from_variable:
        fix = Fix("clear PYTHONPATH: it goes before every environment's own packages", "unset PYTHONPATH", Safety.REVERSIBLE)
        return Candidate("shadowed-package", 60, Severity.WARNING, title, (f"PYTHONPATH holds {place}", *lines[:3]), fix)
    fix = Fix("keep one copy: uninstall the other, or make the environment without --system-site-packages")
    return Candidate("shadowed-package", 60, Severity.WARNING, title, tuple(lines[:4]), fix)


def _over_conda(inventory: Inventory) -> Iterator[Candidate]:
    """pip replaces conda's files and not conda's record: the next `conda install` writes its own files over pip's."""
    lines = [
        f"{name}: conda's record says {stated}, {copies[0].version} is there (by {copies[0].installer or 'unknown'})"
        for name, stated in sorted(inventory.conda_records.items())
        if (copies := inventory.packages.get(name)) and copies[0].version.split("+")[0] != stated.split("+")[0]
    ]
    if lines:
        title = "pip has installed over conda's packages: conda believes in versions that are no longer there"
        fix = Fix(
            "keep one installer for each package: remove it with pip, then install it with conda, or make the environment anew"
        )
        yield Candidate("pip-over-conda", 87, Severity.WARNING, title, tuple(lines[:6]), fix)
