"""Packages that are there twice: in one folder (an interrupted update, pip over conda) or across folders (user site, PYTHONPATH)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Copy, Inventory

ATTIC = "provision-doctor-removed"
"""Folder in the prefix to which ``--fix`` moves what it takes away, so that it can be put back."""


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield a finding per package with several copies."""
    for name, copies in inventory.packages.items():
        if len(copies) > 1:
            yield _twice(inventory, name, copies)


def _twice(inventory: Inventory, name: str, copies: tuple[Copy, ...]) -> Candidate:
    first, *others = copies
    evidence = tuple(f"{copy.metadata} (by {copy.installer or 'unknown'})" for copy in copies)
    user = inventory.python.user_site
    if any(copy.location != first.location for copy in others):
        leaked = user is not None and any(Path(copy.location) == Path(user) for copy in copies)
        code = "user-site-leak" if leaked else "shadowed-package"
        text = (
            "keep the user site out: set PYTHONNOUSERSITE=1"
            if leaked
            else "keep one copy: clear PYTHONPATH, or uninstall the other"
        )
        title = f"{name} {first.version} is imported, another copy ({others[0].version}) lies in {others[0].location}"
        return Candidate(
            code,
            60,
            Severity.WARNING,
            title,
            evidence,
            Fix(text, "export PYTHONNOUSERSITE=1" if leaked else None, Safety.REVERSIBLE),
        )
    stale = _stale(copies)
    mixed = len({copy.installer for copy in copies}) > 1
    title = f"{name} is installed twice in one folder: {', '.join(copy.version for copy in copies)}" + (
        " (pip over conda)" if mixed else ""
    )
    words = ["mv", stale.metadata, str(Path(inventory.python.prefix) / f"{ATTIC}-{Path(stale.metadata).name}")]
    fix = Fix(
        f"take away the record of {stale.version}, whose files are no longer there",
        shlex.join(words),
        Safety.REVERSIBLE,
        automatic=True,
    )
    return Candidate("duplicate-package", 48, Severity.ERROR, title, evidence, fix)


def _stale(copies: tuple[Copy, ...]) -> Copy:
    """The record to take away: one whose compiled files are gone, else the older one."""
    from packaging.version import InvalidVersion, Version

    def age(copy: Copy) -> tuple[bool, Version]:
        try:
            return (not copy.missing, Version(copy.version))
        except InvalidVersion:
            return (not copy.missing, Version("0"))

    return min(copies, key=age)
