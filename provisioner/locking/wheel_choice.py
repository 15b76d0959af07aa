"""Which of a release's wheels pip would take on a machine that is described, not present."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """The machine that is locked for: Python such as ``3.12``, processor, glibc such as ``2.36``."""

    python: str
    machine: str = "x86_64"
    glibc: str = "2.28"

    @property
    def platform(self) -> str:
        """The conda platform of the same name."""
        return "linux-64" if self.machine == "x86_64" else f"linux-{self.machine}"

    def markers(self) -> dict[str, str]:
        """Return the target's environment markers (PEP 508)."""
        return {
            "python_version": self.python,
            "python_full_version": f"{self.python}.0",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "platform_machine": self.machine,
        }


def file_url(file: dict[str, Any]) -> str:
    """Return the URL of a file row of ``pylock.toml``."""
    return file["url"] if "url" in file else Path(file["path"]).resolve().as_uri()


def best_wheel(wheels: Iterable[dict[str, Any]], target: Target) -> dict[str, Any] | None:
    """Return the wheel that pip would take on ``target``: the one with the most specific tag; None if none fits."""
    from packaging.utils import parse_wheel_filename

    ranks = _ranks(target)
    best: tuple[int, dict[str, Any]] | None = None
    for wheel in wheels:
        name = wheel.get("name") or unquote(urlsplit(file_url(wheel)).path.rsplit("/", 1)[-1])
        found = [ranks[tag] for tag in parse_wheel_filename(name)[3] if tag in ranks]
        if found and (best is None or min(found) < best[0]):
            best = (min(found), wheel)
    return best[1] if best else None


@functools.cache
def _ranks(target: Target) -> dict[Any, int]:
    """Return the tags that ``target`` installs, each with its place in pip's order."""
    from packaging.tags import compatible_tags, cpython_tags

    version = tuple(int(part) for part in target.python.split("."))
    newest = int(target.glibc.split(".")[1])
    aliases = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    platforms = []
    for minor in range(newest, 4, -1):
        platforms.append(f"manylinux_2_{minor}_{target.machine}")
        if minor in aliases:
            platforms.append(f"{aliases[minor]}_{target.machine}")
    platforms.append(f"linux_{target.machine}")
    interpreter = f"cp{version[0]}{version[1]}"
    tags = [*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)]
    return {tag: rank for rank, tag in enumerate(tags)}
