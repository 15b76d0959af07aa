"""The package-index part of a lock: resolved by uv for the target's Python and glibc, one hashed file for each package."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from provisioner.compat import tomllib
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.locking.values import MAIN, LockedPackage
from provisioner.uv import glibc_platform, run_uv

RESOLVE_SECONDS = 600.0


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


def resolve(
    requirements: Sequence[str],
    target: Target,
    settings: IndexSettings,
    *,
    torch_index: str | None = None,
    exclude_newer: datetime | None = None,
    category: str = MAIN,
    find_links: bool = True,
) -> tuple[LockedPackage, ...]:
    """Return the exact files that satisfy ``requirements`` on ``target``, sorted by name.

    ``torch_index`` names a PyTorch index (``cu126``, ``cpu``) that must serve torch and its companions.

    Raise `NoRoute` with uv's own explanation when they cannot be satisfied together, `SourceUnreachable` when the index does not answer.
    """
    with tempfile.TemporaryDirectory(prefix="provision-lock-") as folder:
        wanted, output = Path(folder, "requirements.in"), Path(folder, "pylock.toml")
        wanted.write_text("".join(f"{line}\n" for line in requirements))
        options = ["pip", "compile", str(wanted), "--format", "pylock.toml", "-o", str(output), "--quiet"]
        options += ["--python-version", target.python, "--python-platform", glibc_platform(target.machine, target.glibc)]
        options += ["--no-build", "--no-header", "--generate-hashes", *settings.options(find_links=find_links)]
        if torch_index is not None:  # uv takes torch's packages, and no others, from this index
            options += ["--torch-backend", torch_index]
        if exclude_newer is not None:
            options += ["--exclude-newer", exclude_newer.isoformat()]
        result = run_uv(options, settings=settings, timeout=RESOLVE_SECONDS)
        if not result.ok:
            raise _resolution_error(result.err or result.out, settings, timed_out=result.timed_out)
        packages = tomllib.loads(output.read_text()).get("packages", [])
    locked = [_locked(row, target, category) for row in packages if _applies(row, target)]
    return tuple(sorted(locked, key=lambda package: package.name))


def _applies(row: dict[str, Any], target: Target) -> bool:
    from packaging.markers import Marker

    marker = row.get("marker")
    return marker is None or Marker(marker).evaluate({**target.markers(), "extra": ""})


def _locked(row: dict[str, Any], target: Target, category: str) -> LockedPackage:
    chosen = best_wheel(row.get("wheels", ()), target) or row.get("archive")
    if chosen is None:
        raise NoRoute(
            f"{row['name']} {row.get('version', '')} has no wheel for CPython {target.python} on {target.machine}, glibc {target.glibc}",
            hints=["choose another --python"],
            code="no-wheel",
        )
    sha256 = chosen.get("hashes", {}).get("sha256")
    if not sha256:
        raise IntegrityError(
            f"the index gives no sha256 for {row['name']} {row.get('version', '')}",
            why="nothing unhashed goes into a lock",
            hints=["use an index that publishes hashes"],
            code="hash-unknown",
        )
    return LockedPackage(
        name=row["name"],
        version=row["version"],
        manager="pip",
        platform=target.platform,
        url=_url(chosen),
        sha256=sha256,
        size=chosen.get("size"),
        category=category,
    )


def _url(file: dict[str, Any]) -> str:
    return file["url"] if "url" in file else Path(file["path"]).resolve().as_uri()


def best_wheel(wheels: Iterable[dict[str, Any]], target: Target) -> dict[str, Any] | None:
    """Return the wheel that pip would take on ``target``: the one with the most specific tag; None if none fits."""
    from packaging.utils import parse_wheel_filename

    ranks = {tag: rank for rank, tag in enumerate(_tags(target))}
    best: tuple[int, dict[str, Any]] | None = None
    for wheel in wheels:
        name = wheel.get("name") or unquote(urlsplit(_url(wheel)).path.rsplit("/", 1)[-1])
        found = [ranks[tag] for tag in parse_wheel_filename(name)[3] if tag in ranks]
        if found and (best is None or min(found) < best[0]):
            best = (min(found), wheel)
    return best[1] if best else None


def _tags(target: Target) -> list[Any]:
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
    return [*cpython_tags(version, platforms=platforms), *compatible_tags(version, interpreter, platforms)]


_UNREACHABLE = re.compile(
    r"error sending request|dns error|failed to fetch|connection refused|timed? out|could not connect|network connectivity is disabled|network was disabled",
    re.I,
)


def _resolution_error(text: str, settings: IndexSettings, *, timed_out: bool) -> Exception:
    """Turn uv's message into ours: unreachable (exit 4), or unsatisfiable with uv's reason (exit 3)."""
    said = text.strip()
    if timed_out or _UNREACHABLE.search(said):
        host = urlsplit(settings.url).hostname or settings.url
        return SourceUnreachable(
            f"the package index does not answer: {host}",
            why=_shortest(said) if said else f"no answer within {RESOLVE_SECONDS:.0f} s",
            hints=["check the network and HTTPS_PROXY", "or set a mirror: `pip config set global.index-url URL`"],
            code="index-unreachable",
        )
    return NoRoute(
        "the packages cannot be installed together",
        why=said,
        hints=["loosen the pin named above, or leave out the --with package that causes it"],
        code="unsolvable",
    )


def _shortest(text: str) -> str:
    """Return the innermost cause of a ``Caused by`` chain."""
    return text.rsplit("Caused by:", 1)[-1].strip().splitlines()[0]
