"""Environment names: what they may be, so that they are safe as a directory, in a prompt and in a shell."""

from __future__ import annotations

import re

from provisioner.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


def check_name(name: str) -> str:
    """Return ``name`` if an environment may be called so; raise `UsageError` saying what is wrong with it."""
    if NAME.fullmatch(name) and not name.endswith(".lock"):
        return name
    if not name.strip():
        why = "it is empty"
    elif "/" in name or "\\" in name:
        why = "it is a path, and environments are called by name"
    elif name in (".", "..") or name.startswith((".", "-")):
        why = "it begins with a dot or a dash"
    elif len(name) > 64:
        why = f"it has {len(name)} characters; 64 are allowed"
    else:
        why = "only letters, digits, '_', '-' and '.' are allowed"
    better = re.sub(r"[^A-Za-z0-9_.-]+", "_", name.strip().strip("/").rsplit("/", 1)[-1]).strip("_.-") or "unsloth_env"
    hint = f"provision create {better[:64]}"
    if "/" in name:
        return _refuse(name, why, [hint, "to put environments elsewhere: PROVISION_ENVS_DIR=/that/folder " + hint])
    return _refuse(name, why, [hint])


def _refuse(name: str, why: str, hints: list[str]) -> str:
    raise UsageError(f"an environment cannot be called {name!r}", why=why, hints=hints, code="bad-name")
