"""The lock: the exact files of an environment, by URL and hash."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime

MAIN = "main"
"""The category of what the environment holds; conda-lock installs it by default."""

TOOLCHAIN = "toolchain"
"""The category of the package index's CUDA compiler: fetched for a build by the venv backend, never part of the environment."""

SOURCE = "source"
"""The category of what is compiled here: flash-attn's sdist. Its wheel replaces it once it exists."""


def build_of(filename: str) -> str | None:
    """Return the build string of a conda package's file name, NAME-VERSION-BUILD; None for another file."""
    match = re.search(r"-[^-/]+-([^-/]+)\.(?:conda|tar\.bz2)$", filename)
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One file. ``manager`` is ``conda`` or ``pip``; ``platform`` a conda platform such as ``linux-64``; ``size`` is in bytes.

    ``dependencies`` maps names to version specs, ``build`` is a conda build string.
    """

    name: str
    version: str
    manager: str
    platform: str
    url: str
    sha256: str
    md5: str | None = None
    size: int | None = None
    build: str | None = None
    category: str = MAIN
    dependencies: dict[str, str] = field(default_factory=dict)

    @property
    def filename(self) -> str:
        """The file's own name, percent-decoding undone."""
        from urllib.parse import unquote, urlsplit

        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def stated_version(self) -> str:
        """The version that a wheel's name states, with its local label (flash-attn's release wheels add one); else ``version``."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        try:
            return str(parse_wheel_filename(self.filename)[1])
        except InvalidWheelFilename:
            return self.version


@dataclass(frozen=True, slots=True)
class Lock:
    """Everything needed to make an environment elsewhere or later.

    ``metadata`` is conda-lock's ``custom_metadata`` (text to text): recipe, GPU classes, driver floor, plan, snapshot date.
    ``platforms`` lists all of them where there are several (`provisioner.locking.targets`), ``platform`` being the first then.
    """

    platform: str
    packages: tuple[LockedPackage, ...]
    channels: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    platforms: tuple[str, ...] = ()

    def of(self, manager: str, category: str = MAIN) -> tuple[LockedPackage, ...]:
        """Return the packages of one manager and category, in lock order."""
        return tuple(package for package in self.packages if package.manager == manager and package.category == category)

    def find(self, name: str, manager: str = "pip") -> LockedPackage | None:
        """Return the locked package of that (normalised) name."""
        return next((package for package in self.packages if package.name == name and package.manager == manager), None)


def end_of_day(moment: datetime) -> datetime:
    """Return the last second of the day of ``moment``: what ``--exclude-newer`` with a day alone means, in the zone of ``moment``."""
    return moment.replace(hour=23, minute=59, second=59, microsecond=0)
