"""The index of prebuilt flash-attn wheels: official and community release files, and conda-forge's builds.

The shipped index serves always; one that `provision knowledge update` has fetched serves instead while it is not older.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import msgspec

from provisioner import paths
from provisioner.knowledge import tables, wheel_lists, wheel_names, wheel_rules
from provisioner.knowledge.wheel_lists import Line, Shelf, WheelLists

SHIPPED = Path(__file__).with_name("wheels.json")


class Wheel(msgspec.Struct, frozen=True):
    """One prebuilt wheel.

    ``cuda`` is ``12`` or ``12.8`` as the name states it; ``torch`` the torch line (``2.9``), ``torch_release`` what the name says (maybe ``2.9.1``);
    ``python`` the interpreter tag (``cp312``, ``cp313t``); ``platform`` ``linux_x86_64``, ``linux_aarch64`` or ``win_amd64``.
    ``abi`` is the C++11 label in the name, None without one; ``abi_real`` what the wheel really has. ``trust`` is ``official`` or ``community``.
    ``driver_cuda`` is the CUDA version that the driver must know itself, None where any driver of the major runs it.
    ``glibc``, ``archs``, ``nvcc``, ``driver_cuda``, ``abi_real`` and ``traps`` follow from `wheel_rules`; ``archs`` are compute capabilities. ``size`` is in bytes.
    """

    version: str
    cuda: str
    torch: str
    python: str
    platform: str
    abi: bool | None
    url: str
    filename: str
    sha256: str | None
    trust: str
    glibc: str | None
    archs: tuple[str, ...]
    source: str
    date: str
    torch_release: str
    abi_real: bool | None
    nvcc: str
    traps: tuple[str, ...] = ()
    size: int | None = None
    distribution: str = "flash_attn"
    any_later_python: bool = False
    release: str = ""
    driver_cuda: str | None = None


class CondaBuild(msgspec.Struct, frozen=True):
    """A flash-attn build on conda-forge: only for conda-forge's own pytorch, never for a torch from pip.

    ``sha256`` and ``build`` are set where a channel record was read; else the row covers all that the feedstock makes.
    """

    version: str
    cuda: str
    torch: tuple[str, ...]
    pythons: tuple[str, ...]
    platforms: tuple[str, ...]
    archs: tuple[str, ...]
    glibc: str
    source: str
    date: str
    build: str | None = None
    sha256: str | None = None
    note: str | None = None


class WheelPlace(msgspec.Struct, frozen=True):
    """Somewhere else that serves flash-attn: for hints alone. ``archs`` empty means that they are not stated."""

    name: str
    serves: str
    platforms: tuple[str, ...]
    archs: tuple[str, ...]
    kind: str
    source: str
    date: str


class WheelIndex:
    """The wheels by torch line, read when they are asked for: an index of 8,000 opens in milliseconds."""

    def __init__(self, lists: WheelLists) -> None:
        self.lists = lists
        self._by_torch: dict[str, tuple[Wheel, ...]] = {}
        self._found: dict[tuple[str, str, str, str, str | None], tuple[Wheel, ...]] = {}

    @property
    def date(self) -> str:
        """The day of the newest list in it."""
        return self.lists.date

    @property
    def torch_lines(self) -> tuple[str, ...]:
        """The torch lines that it has wheels for, oldest first."""
        lines = {minor for shelf in self.lists.shelves for minor in shelf.torch}
        return tuple(sorted(lines, key=lambda line: tuple(map(int, line.split(".")))))

    @functools.cached_property
    def wheels(self) -> tuple[Wheel, ...]:
        """Every flash-attn 1.x and 2.x wheel; `for_torch` and `find` are much faster."""
        return tuple(wheel for wheel in self.every() if wheel.distribution == "flash_attn")

    def every(self) -> tuple[Wheel, ...]:
        """Every wheel, those of FlashAttention-3 (``flash_attn_3``) among them."""
        return tuple(wheel for line in self.torch_lines for wheel in self.for_torch(line))

    def for_torch(self, torch: str) -> tuple[Wheel, ...]:
        """Return the wheels for a torch line (``"2.9"``)."""
        if torch not in self._by_torch:
            self._by_torch[torch] = tuple(wheel for shelf, line in self._lines(torch) for wheel in _wheels(shelf, line, torch))
        return self._by_torch[torch]

    def find(
        self, torch: str, python: str, platform: str, *, version: str | None = None, distribution: str = "flash_attn"
    ) -> tuple[Wheel, ...]:
        """Return the wheels for a torch line (``"2.9"``), an interpreter tag (``"cp312"``) and a platform (``"linux_x86_64"``).

        Lines that cannot hold one are not even parsed: with a ``version`` this takes a hundredth of `for_torch`.
        """
        key = (torch, python, platform, distribution, version)
        if key not in self._found:
            start = f"{distribution}-{version}+" if version else f"{distribution}-"
            lines = ((shelf, line) for shelf, line in self._lines(torch) if line[1].startswith(start))
            self._found[key] = tuple(
                wheel
                for shelf, line in lines
                if wheel_lists.mentions(line, python, platform)
                for wheel in _wheels(shelf, line, torch, python)
                if wheel.platform == platform and _runs_in(wheel, python)
            )
        return self._found[key]

    def _lines(self, torch: str) -> Iterator[tuple[Shelf, Line]]:
        return ((shelf, line) for shelf in self.lists.shelves for line in shelf.torch.get(torch, ()))


def updated_index_path() -> Path:
    """Return where `provision knowledge update` keeps its index."""
    return paths.cache_dir() / "knowledge" / "wheels.json"


@functools.cache
def shipped() -> WheelIndex:
    """Return the index that ships with this version."""
    return WheelIndex(msgspec.json.decode(SHIPPED.read_bytes(), type=WheelLists))


@functools.cache
def load() -> WheelIndex:
    """Return the index to use: the user's updated one where it is whole and not older than the shipped one, else the shipped one."""
    mine = _updated()
    return mine if mine is not None and mine.date >= shipped().date else shipped()


@functools.cache
def conda_builds() -> tuple[CondaBuild, ...]:
    """Return conda-forge's builds."""
    return tables.rows("conda_builds", CondaBuild)


@functools.cache
def places() -> tuple[WheelPlace, ...]:
    """Return the places beyond this index."""
    return tables.rows("wheel_places", WheelPlace)


def _updated() -> WheelIndex | None:
    try:
        return WheelIndex(msgspec.json.decode(updated_index_path().read_bytes(), type=WheelLists))
    except (OSError, msgspec.MsgspecError):
        return None


def _runs_in(wheel: Wheel, python: str) -> bool:
    if not wheel.any_later_python:
        return wheel.python == python
    return not python.endswith("t") and _minor(python) >= _minor(wheel.python)


def _minor(tag: str) -> int:
    """``cp312`` is 12."""
    return int(tag.removeprefix("cp3").rstrip("t"))


def _wheels(shelf: Shelf, line: Line, torch: str, python: str | None = None) -> Iterator[Wheel]:
    """Yield the wheels of a line (for a Python tag): they differ in Python, URL and hash alone, so the rules are asked once."""
    files = list(wheel_lists.files_of(shelf, line, python))
    if not files:
        return
    name = wheel_names.parse(files[0].filename)
    assert name is not None, line  # only names that parse are folded
    source, release = shelf.source, line[0]
    glibc, archs = wheel_rules.glibc(name, source), wheel_rules.archs(name, source)
    abi_real, nvcc = wheel_rules.real_abi(name, source), wheel_rules.nvcc(name, source)
    traps, driver_cuda = wheel_rules.traps(name, source, release), wheel_rules.driver_cuda(name)
    for file in files:
        filename = file.filename
        yield Wheel(
            version=name.version,
            cuda=name.cuda,
            torch=torch,
            python=wheel_names.python_of(filename),
            platform=name.platform,
            abi=name.abi,
            url=file.url,
            filename=filename,
            sha256=file.sha256,
            trust=file.trust,
            glibc=glibc,
            archs=archs,
            source=source,
            date=file.date,
            torch_release=name.torch,
            abi_real=abi_real,
            nvcc=nvcc,
            traps=traps,
            size=file.size,
            distribution=name.distribution,
            any_later_python=name.any_later,
            release=release,
            driver_cuda=driver_cuda,
        )
