"""Where the environment lies: its path, its name among its siblings, and whether it is one at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.inventory import Inventory


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about the prefix."""
    yield from _path(inventory)
    yield from _conflict(inventory)
    if inventory.python.kind in ("conda-base", "system"):
        what = "conda's base environment" if inventory.python.kind == "conda-base" else "the system's own Python"
        fix = Fix("make an environment of its own: packages here break the tools that live here too", "provision create unsloth")
        yield Candidate(
            "base-environment-in-use",
            92,
            Severity.WARNING,
            f"this is {what}, not an environment",
            (inventory.python.prefix,),
            fix,
        )


def _path(inventory: Inventory) -> Iterator[Candidate]:
    prefix = inventory.python.prefix
    spaced, foreign = any(letter.isspace() for letter in prefix), not prefix.isascii()
    if not (spaced or foreign):
        return
    named = " and ".join(name for name, there in (("spaces", spaced), ("non-ASCII letters", foreign)) if there)
    fix = Fix(
        "create the environment anew under a plain path; a prefix cannot be moved, its path is written into its files",
        "provision create unsloth",
    )
    title = f"the environment's path has {named}: compilers, ninja and shebang lines split or mangle it"
    code = "path-not-ascii" if foreign else "path-with-spaces"
    yield Candidate(code, 88, Severity.WARNING, title, (prefix,), fix)


def _conflict(inventory: Inventory) -> Iterator[Candidate]:
    """Names that differ only in separators or in a version at their end are mistaken for one another."""
    own = Path(inventory.python.prefix)
    if inventory.python.kind not in ("venv", "conda"):
        return
    alike = sorted(other for other in inventory.siblings if Path(other) != own and _stem(Path(other).name) == _stem(own.name))
    if alike:
        names = ", ".join(Path(other).name for other in alike)
        fix = Fix(
            f"activate by full path, or remove what is not used: this is {own}",
            f"provision run {own.name} python -c 'import sys; print(sys.prefix)'",
        )
        yield Candidate(
            "environment-name-conflict",
            91,
            Severity.WARNING,
            f"{own.name} is easily mistaken for {names}",
            (str(own), *alike[:4]),
            fix,
        )


def _stem(name: str) -> str:
    plain = re.sub(r"[-_. ]+", "", name.lower())
    return re.sub(r"(?:v?\d+|dev|test|env|new|old|copy|bak)+$", "", plain) or plain
