"""Where the environment lies: its path, its name among its siblings, whether it is one at all, whether it is the active one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Inventory


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about the prefix."""
    yield from _path(inventory)
    yield from _conflict(inventory)
    yield from _activated(inventory)
    yield from _unwritable(inventory)
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


def _activated(inventory: Inventory) -> Iterator[Candidate]:
    """uv and this command take VIRTUAL_ENV's environment, then CONDA_PREFIX's; the shell takes the first `python` on PATH."""
    virtual, conda = (inventory.variables.get(name) for name in ("VIRTUAL_ENV", "CONDA_PREFIX"))
    on_path = inventory.python.on_path
    if not virtual or not on_path or Path(on_path).is_relative_to(virtual) or Path(on_path).parents[1].resolve() == Path(virtual):
        return
    named = f" (conda's {conda})" if conda and Path(on_path).is_relative_to(conda) else ""
    title = f"{virtual} is active, but `python` starts {on_path}{named}: packages go into the one and are missed in the other"
    evidence = (f"VIRTUAL_ENV={virtual}", *([f"CONDA_PREFIX={conda}"] if conda else []), f"first python on PATH: {on_path}")
    fix = Fix(
        "leave one of the two: activate the other last, or not at all",
        "conda deactivate" if named else "deactivate",
        Safety.REVERSIBLE,
    )
    yield Candidate("two-environments-active", 86, Severity.WARNING, title, evidence, fix)


def _unwritable(inventory: Inventory) -> Iterator[Candidate]:
    """A shared, read-only cache is meant where everything is in it; what has to be fetched or compiled then fails late."""
    if not inventory.unwritable:
        return
    names = ", ".join(inventory.unwritable)
    title = f"what training writes to may not be written here: {names}"
    first = next(iter(inventory.unwritable))
    fix = Fix("point the variable at a directory of your own", f"export {first}=$HOME/{first.lower()}", Safety.REVERSIBLE)
    evidence = tuple(f"{name}: {path}" for name, path in inventory.unwritable.items())
    yield Candidate("cache-not-writable", 86, Severity.WARNING, title, evidence, fix)


def _stem(name: str) -> str:
    plain = re.sub(r"[-_. ]+", "", name.lower())
    return re.sub(r"(?:v?\d+|dev|test|env|new|old|copy|bak)+$", "", plain) or plain
