"""Commands that install into, or remove from, the environment that was examined: its own pip, or uv where it has none."""

from __future__ import annotations

import shlex
import sys

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
