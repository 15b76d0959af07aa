"""A lock in other tools' formats: conda's explicit list, ``environment.yml``, ``pylock.toml``, ``pixi.lock`` and a bill of materials."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from provisioner.adapter.locked import ADAPTER
from provisioner.errors import IntegrityError
from provisioner.locking.conda_lock_file import scalar
from provisioner.locking.export_pixi import pixi_lock
from provisioner.locking.export_sbom import cyclonedx
from provisioner.locking.values import SOURCE, Lock, LockedPackage


def explicit(locks: Sequence[Lock]) -> str:
    """Return the list that ``conda create --file`` takes, each URL with its sha256 (conda 24.9 or newer; conda/conda#14048).

    What comes from the package index stands there as comments, as conda-lock has it: conda itself cannot install it.
    """
    (lock,) = locks
    lines = [f"# platform: {lock.platform}", "@EXPLICIT"]
    lines += [f"{package.url}#sha256:{package.sha256}" for package in _listed(lock, "conda")]
    lines += [f"# pip {package.name} @ {package.url}#sha256={package.sha256}" for package in _listed(lock, "pip")]
    return "".join(f"{line}\n" for line in lines)


def environment_yml(locks: Sequence[Lock]) -> str:
    """Return an ``environment.yml`` that pins every package: versions and builds from the channels, URLs and hashes from the index."""
    (lock,) = locks
    lines = ["channels:", *(f"  - {scalar(channel)}" for channel in lock.channels), "  - nodefaults", "dependencies:"]
    lines += [f"  - {scalar(f'{package.name}={package.version}={package.build}')}" for package in _listed(lock, "conda")]
    if pip := _listed(lock, "pip"):
        lines += ["  - pip:", "      - --no-deps"]
        lines += [f"      - {scalar(f'{package.name} @ {package.url}#sha256={package.sha256}')}" for package in pip]
    return "".join(f"{line}\n" for line in lines)


def pylock(locks: Sequence[Lock]) -> str:
    """Return the package-index part as ``pylock.toml`` (PEP 751): one hashed file for each package."""
    (lock,) = locks
    lines = ['lock-version = "1.0"', 'created-by = "provision"']
    if python := lock.metadata.get("provision-python"):
        lines.append(f'requires-python = "=={python}.*"')
    for package in _listed(lock, "pip"):
        file = f"url = {json.dumps(package.url)}, hashes = {{ sha256 = {json.dumps(package.sha256)} }}"
        lines += ["", "[[packages]]", f"name = {json.dumps(package.name)}", f"version = {json.dumps(package.stated_version)}"]
        lines.append(f"wheels = [{{ name = {json.dumps(package.filename)}, {file} }}]")
        needs = ", ".join(f"{{ name = {json.dumps(name)} }}" for name in package.dependencies)
        lines += [f"dependencies = [{needs}]"] if needs else []
    return "".join(f"{line}\n" for line in lines)


def left_out(lock: Lock) -> Iterator[str]:
    """Yield what none of the formats that are installed from can hold, with its version: what is made where it is installed."""
    made = lock.of("pip", SOURCE)
    yield from (f"{package.name} {package.version}, compiled from {package.url}#sha256={package.sha256}" for package in made)
    if not made and (record := lock.metadata.get(ADAPTER)):
        yield f"flash-attn {json.loads(record)['version']}, the adapter, made from provision's own files"


def _listed(lock: Lock, manager: str) -> list[LockedPackage]:
    """Return the packages in the lock file's order, which a lock that was just made need not have."""
    return sorted(lock.of(manager), key=lambda package: package.name)


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its file beside the lock, and what writes it from the parts of a lock; ``together`` puts all platforms into one file.

    ``lacks`` says that what is made where it is installed is no part of it: a comment at its beginning tells.
    """

    filename: str
    write: Callable[[Sequence[Lock]], str]
    together: bool = False
    lacks: bool = True


FORMATS = {
    "explicit": Format("explicit-{platform}.txt", explicit),
    "environment.yml": Format("environment-{platform}.yml", environment_yml),
    "pylock": Format("pylock.{platform}.toml", pylock),
    "pixi.lock": Format("pixi.lock", pixi_lock, together=True),
    "cyclonedx": Format("{platform}.cdx.json", cyclonedx, lacks=False),
}
"""The formats by name."""


def exported(kind: Format, parts: Sequence[Lock]) -> dict[str, str]:
    """Return the texts of a format by file name, for the parts of a lock, one for each platform.

    Raise `IntegrityError` for a lock that lacks a sha256: another tool would install that file unchecked.
    """
    for package in (package for part in parts for package in part.packages):
        if not package.sha256:
            raise IntegrityError(
                f"{package.name} {package.version} for {package.platform} has no sha256 in the lock",
                why="nothing unhashed is passed on",
                hints=["lock again with a channel or index that publishes sha256"],
                code="hash-unknown",
            )
    groups = [parts] if kind.together else [[part] for part in parts]
    return {kind.filename.format(platform=group[0].platform): _comment(kind, group) + kind.write(group) for group in groups}


def _comment(kind: Format, locks: Sequence[Lock]) -> str:
    lacking = dict.fromkeys(text for lock in locks for text in left_out(lock)) if kind.lacks else {}
    return "".join(f"# left out: {text}; `provision create --lock` makes it\n" for text in lacking)
