"""The members of a wheel, here or remote: which are compiled, what its metadata says, and how to get at their bytes."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import HeaderParser
from pathlib import Path
from typing import IO

from provisioner.wheels.malformed import MalformedBinary

_BLOCK = 1024 * 1024
_COMPILED = re.compile(r"\.so(?:\.\d+)*$")
LARGEST_TEXT = 4 * 2**20
"""Bytes that a member read as text may have."""


@contextmanager
def _our_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        KeyError,
        IndexError,
    ) as error:
        raise MalformedBinary(f"{name} is not a readable wheel: {error}") from error


class Archive:
    """A wheel's zip archive over any seekable stream. Raise `MalformedBinary` where it is damaged."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        with _our_errors(name):
            self._zip = zipfile.ZipFile(stream)

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of all members."""
        return tuple(self._zip.namelist())

    def compiled(self) -> tuple[zipfile.ZipInfo, ...]:
        """The members that are shared libraries by their name, smallest first."""
        found = [info for info in self._zip.infolist() if _COMPILED.search(info.filename)]
        return tuple(sorted(found, key=lambda info: (info.compress_size, info.filename)))

    def text(self, member: str) -> str:
        """Return a small member as text."""
        return self.beginning(member, LARGEST_TEXT).decode("utf-8", "replace")

    def beginning(self, member: str, size: int) -> bytes:
        """Return the first ``size`` bytes of a member, inflating no more than that."""
        with _our_errors(self.name), self._zip.open(member) as file:
            return file.read(size)

    @contextmanager
    def member(self, member: str) -> Iterator[IO[bytes]]:
        """Yield a member as a stream that inflates as it is read."""
        with _our_errors(self.name), self._zip.open(member) as file:
            yield file

    def extract(self, member: str, folder: Path) -> Path:
        """Write a member to its place below ``folder`` and return its path; one that would lie elsewhere is refused."""
        target = (folder / member).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise MalformedBinary(f"{self.name} has a member outside its own folder: {member}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with self.member(member) as source, target.open("wb") as file:
            while block := source.read(_BLOCK):
                file.write(block)
        return target

    def metadata(self) -> dict[str, list[str]]:
        """Return the METADATA headers, by lower-case name; empty where the wheel has none."""
        name = next((name for name in self.names if name.endswith(".dist-info/METADATA") and name.count("/") == 1), None)
        return parse_metadata(self.text(name)) if name else {}


def parse_metadata(text: str) -> dict[str, list[str]]:
    """Return the headers of a METADATA file, by lower-case name."""
    headers = HeaderParser().parsestr(text)
    found: dict[str, list[str]] = {}
    for key, value in headers.items():
        found.setdefault(key.lower(), []).append(str(value))
    return found
