"""Halves of installs: what pip had set aside when it was interrupted, folders without record, records whose files are gone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import attic, install, set_aside
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Copy, Inventory
from provisioner.indexes import TORCH_INDEX

_TORCH_LABEL = re.compile(r"cu\d{3}|cpu|rocm[\d.]+")
_RECORD = re.compile(r"^~(?P<name>[\w.-]+?)-(?P<version>\d[^-]*)\.dist-info$")


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about packages that are not whole."""
    for name, copies in inventory.packages.items():
        if copies[0].missing_count:
            yield _incomplete(inventory, name, copies[0])
    for path in inventory.without_record:
        yield _without_record(inventory, Path(path))
    if inventory.remnants:
        yield _remnants(inventory)


def _incomplete(inventory: Inventory, name: str, copy: Copy) -> Candidate:
    """Its own version again: nothing else changes, and pip puts back what it took where it fails."""
    title = f"{name} {copy.version} is not whole: {copy.missing_count} of its files are gone"
    if name == "flash-attn":  # the package index has its source only
        text, repair = "install the flash-attn for the torch that is there", Repair.FLASH_ATTN
        command = shlex.join(["provision", "install", "--python", inventory.python.executable])
    else:
        text, repair = f"install {name} {copy.version} again", Repair.COMMAND
        label = copy.version.partition("+")[2]
        index = ["--index-url", f"{TORCH_INDEX}/{label}"] if _TORCH_LABEL.fullmatch(label) else []
        command = install(inventory, "--force-reinstall", "--no-deps", *index, f"{name}=={copy.version}")
    fix = Fix(text, command, Safety.REVERSIBLE, automatic=True, repair=repair)
    evidence = (copy.metadata, *(f"not there: {file}" for file in copy.missing[:3]))
    return Candidate("package-incomplete", 36, Severity.ERROR, title, evidence, fix)


def _without_record(inventory: Inventory, folder: Path) -> Candidate:
    name = folder.name.replace("_", "-")
    version = next((match["version"] for path in inventory.remnants if (match := _of(path, name))), None)
    wanted = f"{name}=={version}" if version else name
    title = f"{folder.name} lies in site-packages without its record: an install or a removal was interrupted"
    evidence = (str(folder), *(path for path in inventory.remnants if _of(path, name)))
    command = install(inventory, "--force-reinstall", "--no-deps", wanted)
    fix = Fix(f"install {wanted} over it", command, Safety.REVERSIBLE, automatic=version is not None)
    return Candidate("package-without-record", 35, Severity.ERROR, title, evidence, fix)


def _of(path: str, name: str) -> re.Match[str] | None:
    """The remnant's record if it is this package's: pip replaces the first letter."""
    match = _RECORD.match(Path(path).name)
    return match if match and match["name"].replace("_", "-").lower() == name[1:] else None


def _remnants(inventory: Inventory) -> Candidate:
    names = ", ".join(Path(path).name for path in inventory.remnants[:4])
    title = f"pip was interrupted and left what it had set aside: {names}"
    fix = Fix(
        f"move it out of the way (put back from {attic(inventory)})",
        set_aside(inventory, *inventory.remnants),
        Safety.REVERSIBLE,
        automatic=True,
    )
    return Candidate("interrupted-install", 88, Severity.WARNING, title, tuple(inventory.remnants[:4]), fix)
