"""A lock in other tools' formats: conda's explicit list, ``environment.yml`` and ``pylock.toml``."""

from __future__ import annotations

import json
from collections.abc import Callable

from provisioner.locking.conda_lock_file import scalar
from provisioner.locking.values import SOURCE, Lock, LockedPackage


def explicit(lock: Lock) -> str:
    """Return the list that ``conda create --file`` takes, each URL with its sha256 (conda 24.9 or newer; conda/conda#14048).

    What comes from the package index stands there as comments, as conda-lock has it: conda itself cannot install it.
    """
    lines = [f"# platform: {lock.platform}", "@EXPLICIT"]
    lines += [f"{package.url}#sha256:{package.sha256}" for package in _listed(lock, "conda")]
    lines += [f"# pip {package.name} @ {package.url}#sha256={package.sha256}" for package in _listed(lock, "pip")]
    lines += [f"# built from source: {package.url}#sha256={package.sha256}" for package in lock.of("pip", SOURCE)]
    return "".join(f"{line}\n" for line in lines)


def environment_yml(lock: Lock) -> str:
    """Return an ``environment.yml`` that pins every package: versions and builds from the channels, URLs and hashes from the index."""
    lines = ["channels:", *(f"  - {scalar(channel)}" for channel in lock.channels), "  - nodefaults", "dependencies:"]
    lines += [f"  - {scalar(f'{package.name}={package.version}={package.build}')}" for package in _listed(lock, "conda")]
    lines += ["  - pip:", "      - --no-deps"]
    lines += [f"      - {scalar(f'{package.name} @ {package.url}#sha256={package.sha256}')}" for package in _listed(lock, "pip")]
    return "".join(f"{line}\n" for line in lines)


def pylock(lock: Lock) -> str:
    """Return the package-index part as ``pylock.toml`` (PEP 751): one hashed file for each package."""
    lines = ['lock-version = "1.0"', 'created-by = "provision"']
    if python := lock.metadata.get("provision-python"):
        lines.append(f'requires-python = "=={python}.*"')
    for package in _listed(lock, "pip"):
        file = f"url = {json.dumps(package.url)}, hashes = {{ sha256 = {json.dumps(package.sha256)} }}"
        lines += ["", "[[packages]]", f"name = {json.dumps(package.name)}", f"version = {json.dumps(_stated_version(package))}"]
        lines.append(f"wheels = [{{ name = {json.dumps(package.filename)}, {file} }}]")
        needs = ", ".join(f"{{ name = {json.dumps(name)} }}" for name in package.dependencies)
        lines += [f"dependencies = [{needs}]"] if needs else []
    return "".join(f"{line}\n" for line in lines)


def _stated_version(package: LockedPackage) -> str:
    """Return the version that the wheel's name states: flash-attn's release wheels add a local label, and PEP 751 tools compare."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        return str(parse_wheel_filename(package.filename)[1])
    except InvalidWheelFilename:
        return package.version


def _listed(lock: Lock, manager: str) -> list[LockedPackage]:
    """Return the packages in the lock file's order, which a lock that was just made need not have."""
    return sorted(lock.of(manager), key=lambda package: package.name)


FORMATS: dict[str, tuple[str, Callable[[Lock], str]]] = {
    "explicit": ("explicit-{platform}.txt", explicit),
    "environment.yml": ("environment-{platform}.yml", environment_yml),
    "pylock": ("pylock.{platform}.toml", pylock),
}
"""Each format's name, its file beside the lock, and what writes it."""
