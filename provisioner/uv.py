"""Calls of the uv program that ships with the ``uv`` distribution."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from provisioner import download, paths, process
from provisioner.indexes import IndexSettings

SECONDS = 3600.0
"""Limit of one uv call: installs of several GB over a slow line."""


def uv_program() -> Path:
    """Return the path of uv: the one of our own installation, which the version bounds of pyproject hold for."""
    from uv import find_uv_bin

    return Path(find_uv_bin())


_UNREACHABLE = re.compile(
    r"error sending request|dns error|failed to fetch|connection refused|timed? out|could not connect|network connectivity is disabled"
    r"|network was disabled",
    re.IGNORECASE,
)


def says_unreachable(said: str) -> bool:
    """Say whether uv failed because an index did not answer."""
    return _UNREACHABLE.search(said) is not None


def run_uv(
    arguments: Sequence[str | os.PathLike[str]],
    *,
    settings: IndexSettings,
    timeout: float = SECONDS,
    on_line: Callable[[str], None] | None = None,
    environ: Mapping[str, str] | None = None,
) -> process.Result:
    """Run ``uv`` with the user's index settings' variables and a cache among this tool's, without a project, config discovery or colours."""
    env = {**os.environ, **settings.environment, "NO_COLOR": "1", "UV_NO_PROGRESS": "1"}
    env |= {"UV_CACHE_DIR": str(paths.cache_dir() / "uv"), **(environ or {})}
    env.pop("VIRTUAL_ENV", None)
    words: list[str | os.PathLike[str]] = [uv_program(), *arguments]
    if download.offline.get():
        words.append("--offline")
    return process.run(words, timeout=timeout, env=env, on_line=on_line)


def glibc_platform(machine: str, glibc: str | None) -> str:
    """Return uv's ``--python-platform`` for a Linux with that glibc: the newest manylinux level that it runs.

    The levels are those of uv 0.13's ``--python-platform`` (2_17, 2_28, 2_31 to 2_40; read 2026-11-24).
    """
    minor = int((glibc or "2.28").split(".")[1])
    levels = [level for level in (17, 28, *range(31, 41)) if level <= minor]
    if not levels:
        return f"{machine}-unknown-linux-gnu"
    return f"{machine}-manylinux_2_{levels[-1]}"
