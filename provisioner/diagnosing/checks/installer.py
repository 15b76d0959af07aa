"""Commands that change the environment that was examined: its own pip, or uv where it has none; and moving things out of the way."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from provisioner.diagnosing.inventory import Inventory


def install(inventory: Inventory, *words: str) -> str:
    """Return the command that installs what ``words`` say."""
    return shlex.join([*_base(inventory, "install"), *words])


def uninstall(inventory: Inventory, package: str) -> str:
    """Return the command that removes ``package`` without asking."""
    has_pip = "pip" in inventory.packages
    return shlex.join([*_base(inventory, "uninstall"), *(["--yes"] if has_pip else []), package])


def _base(inventory: Inventory, verb: str) -> list[str]:
    python = inventory.python.executable
    if "pip" in inventory.packages:
        return [python, "-m", "pip", verb]
    return [sys.executable, "-m", "uv", "pip", verb, "--python", python]


ATTIC = "provision-doctor-removed"


def attic(inventory: Inventory) -> Path:
    """Return the folder in the prefix to which repairs move what they take away, so that it can be put back."""
    return Path(inventory.python.prefix) / ATTIC


def set_aside(inventory: Inventory, *paths: str) -> str:
    """Return the command that moves ``paths`` into the attic, over nothing that is there already."""
    folder = str(attic(inventory))
    return f"{shlex.join(['mkdir', '-p', folder])} && {shlex.join(['mv', '--backup=numbered', '-t', folder, *paths])}"


def with_copies(prefix: Path, *words: str) -> str:
    """Return the command ``words``, which write an environment's activation anew, after one that keeps what it was like before."""
    folder = prefix / ATTIC
    kept = [str(prefix / "pyvenv.cfg"), str(prefix / "bin" / "activate")]
    steps = (["mkdir", "-p", str(folder)], ["cp", "-a", "--backup=numbered", "-t", str(folder), *kept], words)
    return " && ".join(map(shlex.join, steps))
