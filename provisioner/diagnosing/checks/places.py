"""Where the environment lies: its path, its name among its siblings, whether it is one at all, whether it is the active one."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import with_copies
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Inventory


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about the prefix."""
    yield from _path(inventory)
    yield from _conflict(inventory)
    yield from _activated(inventory)
    yield from _unwritable(inventory)
    if inventory.python.kind in ("conda-base", "system"):
        what = "conda's base environment" if inventory.python.kind == "conda-base" else "the system's own Python"
        fix = Fix(
            "make an environment of its own: packages here break the tools that live here too",
            "provision create unsloth",
            Safety.REVERSIBLE,
        )
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
    title = f"the environment's path has {named}: compilers, ninja and shebang lines split or mangle it"
    code = "path-not-ascii" if foreign else "path-with-spaces"
    yield Candidate(code, 88, Severity.WARNING, title, (prefix,), _moved(inventory))


def _moved(inventory: Inventory) -> Fix:
    """A copy under a plain path; only a virtual environment can be copied so, and `provision` makes its own anew."""
    prefix = Path(inventory.python.prefix)
    target = _plain_path(prefix, inventory.siblings)
    if inventory.python.kind != "venv" or inventory.python.managed or target is None:
        text = "create the environment anew under a plain path; a prefix cannot be moved, its path is written into its files"
        return Fix(text, "PROVISION_DATA_DIR=/plain/path provision create unsloth", Safety.REVERSIBLE)
    command = shlex.join([sys.executable, "-m", "provisioner.diagnosing.relocation", str(prefix), str(target)])
    text = f"copy it to {target}, where its own path is put in place of the old one; the original stays until you delete it"
    return Fix(text, command, Safety.REVERSIBLE, automatic=True, repair=Repair.MOVE, moved_to=str(target / "bin" / "python"))


def _plain_path(prefix: Path, siblings: tuple[str, ...]) -> Path | None:
    """A path like ``prefix`` without what is wrong with it: below the nearest plain directory that is somebody's own (two levels deep)."""
    home = next((one for one in prefix.parents if re.fullmatch(r"[\w./+-]+", str(one), re.ASCII)), None)
    if home is None or len(home.parts) < 3:
        return None
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", prefix.name).strip("_.-") or "unsloth"
    taken = {Path(one) for one in siblings} | {prefix}
    return next(path for number in range(1, 99) if (path := home / (name if number == 1 else f"{name}_{number}")) not in taken)


def _conflict(inventory: Inventory) -> Iterator[Candidate]:
    """Names that differ only in separators or in a version at their end are mistaken for one another, unless its prompt tells."""
    own = _named(inventory)
    if inventory.python.kind not in ("venv", "conda"):
        return
    others = [Path(other) for other in inventory.siblings if Path(other) != own]
    alike = sorted(other for other in others if _stem(other.name) == _stem(own.name))
    if not alike or (inventory.python.prompt and _stem(inventory.python.prompt) not in {_stem(other.name) for other in others}):
        return
    title = f"{own.name} is easily mistaken for {', '.join(other.name for other in alike)}"
    evidence = (str(own), *map(str, alike[:4]))
    yield Candidate("environment-name-conflict", 91, Severity.WARNING, title, evidence, _told_apart(inventory, own))


def _named(inventory: Inventory) -> Path:
    """The path by which users know the environment: its prefix, or the link to one of `provision`'s generations."""
    prefix = Path(inventory.python.prefix)
    if not inventory.python.managed:
        return prefix
    return next((Path(one) for one in inventory.siblings if os.path.realpath(one) == str(prefix)), prefix)


def _told_apart(inventory: Inventory, own: Path) -> Fix:
    """A prompt that says what is inside: `uv venv --allow-existing` writes the activation scripts and pyvenv.cfg anew, nothing else."""
    python = inventory.python
    if python.kind != "venv" or python.managed:
        return Fix(
            "activate it by its full path, or remove what is not used",
            f"conda activate {shlex.quote(str(own))}",
            Safety.REVERSIBLE,
        )
    inside = f"torch-{inventory.version('torch')}" if inventory.version("torch") else f"python-{python.version}"
    words = [sys.executable, "-m", "uv", "venv", "--no-config", "--allow-existing", "--prompt", f"{own.name}:{inside}"]
    if any(entry.startswith(python.base_prefix) and entry.endswith("site-packages") for entry in python.path):
        words.append("--system-site-packages")
    base = Path(python.base_prefix) / "bin" / f"python{'.'.join(python.version.split('.')[:2])}"
    command = with_copies(own, *words, "--python", str(base), str(own))
    return Fix(f"let its prompt say what is inside: ({own.name}:{inside})", command, Safety.REVERSIBLE, automatic=True)


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
