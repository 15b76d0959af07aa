"""``conda-lock.yml`` (version 1): written so that conda-lock and micromamba accept it, read from whoever wrote it.

The file carries no time stamp: the same inputs give the same bytes. What conda-lock has no field for stands in ``custom_metadata``.
conda-lock's own models are not loaded here: importing them takes 1.3 s of a lock that takes half a second otherwise (conda-lock 4.0.3,
measured 2026-11-25). The tests read every file through them and compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner import paths
from provisioner.errors import UsageError
from provisioner.locking.values import MAIN, Lock, LockedPackage, build_of

HEADER = """\
# A lock by provision: exact files with their hashes. Do not edit.
#   create it:         provision create NAME --lock FILE
#   without provision: conda-lock install -n NAME FILE    (flash-attn is then missing where it is built from source)
"""

VERSION = "1"


def write_lock(lock: Lock, path: Path) -> None:
    """Write ``lock`` to ``path``, whole or not at all."""
    paths.write_atomic(path, render(lock))


def render(lock: Lock) -> str:
    """Return the text of the lock file, whatever it is called."""
    rows = sorted(lock.packages, key=_order)
    return HEADER + "".join(f"{line}\n" for line in (*_head(lock), *(line for row in rows for line in _row(row))))


def read_lock(path: Path) -> Lock:
    """Return the lock that a ``conda-lock.yml`` holds, ours or another's (then without our metadata).

    Raise `UsageError` when it cannot be read.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a lock file", hints=["name the file in it"], code="no-lock")
    if not path.is_file():
        raise UsageError(f"there is no lock file {path}", hints=[f"make one: provision lock -o {path}"], code="no-lock")
    try:
        file = _parse(path.read_text(encoding="utf-8"))
        packages = _merged(file.package)
    except ValueError as error:
        raise UsageError(
            f"{path} is not a conda-lock.yml that can be read",
            why=f"{error}: it is another file, or was cut off or edited",
            hints=[f"take it again from where it came, or make it anew: provision lock -o {path}"],
            code="bad-lock",
        ) from error
    platforms = tuple(file.metadata.platforms)
    return Lock(
        platform=platforms[0],
        packages=packages,
        channels=tuple(channel.url for channel in file.metadata.channels),
        metadata=file.metadata.custom_metadata or {},
        platforms=platforms if len(platforms) > 1 else (),
    )


@dataclass
class _Channel:
    url: str


@dataclass
class _Metadata:
    channels: list[_Channel]
    platforms: list[str]
    custom_metadata: dict[str, str] | None = None


@dataclass
class _Row:
    name: str
    version: str
    manager: str
    platform: str
    url: str
    hash: dict[str, str]
    dependencies: dict[str, str] = field(default_factory=dict)
    build: str | None = None
    category: str = MAIN


@dataclass
class _File:
    version: str
    metadata: _Metadata
    package: list[_Row]


def _parse(text: str) -> _File:
    """Return the rows of a lock file. Raise `ValueError` saying what is wrong.

    Every scalar is taken as the text that stands there: a version ``1.10`` or ``2026-10-22`` is no number and no date.
    """
    import msgspec
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        content = msgspec.convert(yaml.load(text, Loader=loader), _File)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise ValueError(_said(error)) from error
    if content.version != VERSION:
        raise ValueError(f"its version is {content.version}; this reads version {VERSION}")
    if not content.metadata.platforms:
        raise ValueError("it names no platform")
    return content


def _said(error: Exception) -> str:
    """Return what a parser complains of in one line, with the line of the file where it tells."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return str(error).splitlines()[0]
    return f"line {mark.line + 1}: {getattr(error, 'problem', None) or 'no YAML'}"


def _merged(rows: list[_Row]) -> tuple[LockedPackage, ...]:
    """Return the rows as packages; one that stands in several categories counts for the first of them by name, `MAIN` before all."""
    found: dict[tuple[str, ...], LockedPackage] = {}
    for row in rows:
        package = _package(row)
        key = (package.manager, package.name, package.platform, package.url)
        if key not in found or _rank(package.category) < _rank(found[key].category):
            found[key] = package
    return tuple(found.values())


def _rank(category: str) -> tuple[bool, str]:
    return category != MAIN, category


_HASHES = {"md5": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}")}


def _package(row: _Row) -> LockedPackage:
    """Return a row as a package. Raise `ValueError` for a name, a hash, a manager or an address that is none."""
    if not (row.name and row.version and row.platform):
        raise ValueError(f"a package lacks its name, version or platform: {row.name} {row.version} {row.url}")
    if row.manager not in ("conda", "pip"):
        raise ValueError(f"{row.name}: its manager is {row.manager!r}, neither conda nor pip")
    for kind, pattern in _HASHES.items():
        if (value := row.hash.get(kind)) and not pattern.fullmatch(value.lower()):
            raise ValueError(f"{row.name}: its {kind} is none: {value!r}")
    if row.manager == "conda" and row.url.count("/") < 2:
        raise ValueError(f"{row.name}: its url is that of no conda package: {row.url!r}")
    return LockedPackage(
        name=row.name,
        version=row.version,
        manager=row.manager,
        platform=row.platform,
        url=row.url.split("#", 1)[0],
        sha256=row.hash.get("sha256", "").lower(),
        md5=row.hash.get("md5"),
        build=row.build or (build_of(row.url) if row.manager == "conda" else None),
        category=row.category,
        dependencies=row.dependencies,
    )


def _order(package: LockedPackage) -> tuple[Any, ...]:
    """conda-lock's order; of two files of one package, main's comes first: conda-lock keeps the first that it meets."""
    return package.manager, package.name, package.platform, _rank(package.category)


def _head(lock: Lock) -> Iterator[str]:
    platforms = lock.platforms or (lock.platform,)
    yield f"version: {VERSION}"
    yield "metadata:"
    yield "  content_hash:"
    for platform in platforms:
        yield f"    {scalar(platform)}: {scalar(lock.metadata.get('provision-plan-digest', ''))}"
    yield "  channels:" if lock.channels else "  channels: []"
    for channel in lock.channels:
        yield f"  - url: {scalar(channel)}"
        yield "    used_env_vars: []"
    yield "  platforms:"
    yield from (f"  - {scalar(platform)}" for platform in platforms)
    yield "  sources: []"
    yield from _mapping("custom_metadata", dict(sorted(lock.metadata.items())), indent="  ")
    yield "package:" if lock.packages else "package: []"


def _row(package: LockedPackage) -> Iterator[str]:
    yield f"- name: {scalar(package.name)}"
    yield f"  version: {scalar(package.version)}"
    yield f"  manager: {package.manager}"
    yield f"  platform: {scalar(package.platform)}"
    yield from _mapping("dependencies", dict(sorted(package.dependencies.items())), indent="  ")
    yield f"  url: {scalar(package.url)}"
    hashes = {"md5": package.md5, "sha256": package.sha256}
    yield from _mapping("hash", {name: value for name, value in hashes.items() if value}, indent="  ")
    if package.manager == "pip":
        source = f"{package.url}#sha256={package.sha256}" if package.sha256 else package.url
        yield from _mapping("source", {"type": "url", "url": source}, indent="  ")
    if package.build:
        yield f"  build: {scalar(package.build)}"
    yield f"  category: {scalar(package.category)}"
    yield f"  optional: {'false' if package.category == MAIN else 'true'}"


def _mapping(name: str, values: Mapping[str, str], *, indent: str) -> Iterator[str]:
    yield f"{indent}{name}:" if values else f"{indent}{name}: {{}}"
    yield from (f"{indent}  {scalar(key)}: {scalar(value)}" for key, value in values.items())


_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./+=<>~@%*!^-]*(?::[A-Za-z0-9_./+=<>~@%*!^#-]+)*")
_OTHERWISE = re.compile(r"(?i)true|false|yes|no|on|off|y|n|null|nan")
"""Words that YAML would take for something else than themselves."""


def scalar(text: str) -> str:
    """Return ``text`` as a YAML scalar that any parser reads back as this text: bare where that is safe, else quoted."""
    if _PLAIN.fullmatch(text) and not _OTHERWISE.fullmatch(text):
        return text
    if text.isascii() and text.isprintable():
        return "'" + text.replace("'", "''") + "'"
    escaped = (
        letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else f"\\U{ord(letter):08X}"
        for letter in text
    )
    return f'"{"".join(escaped)}"'
