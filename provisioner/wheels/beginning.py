"""Reading an extension of which only the beginning is here: a remote wheel's member, inflated no further than needed.

A linked extension begins with its dynamic symbols, their names and versions, then come code and device code; the section table, which says
where all that lies, is at the very end. So the tables are recognised by their shape: the string table is a run of NUL-separated names
that holds ``libc.so.6`` or ``GLIBC_…``; GNU ld puts the symbols right before it and their versions right behind. Device code has a magic number.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cached_property

from provisioner.wheels.elf import DYNSYM, GNU_VERNEED, GNU_VERSYM, STRTAB, Elf, Section, Undefined
from provisioner.wheels.fatbin import CONTAINER_MAGIC, Image, read_images
from provisioner.wheels.linkage import Linkage, linkage_of
from provisioner.wheels.malformed import MalformedBinary

TABLES = 16 * 2**20
"""Bytes of the beginning in which the tables are looked for; those of flash-attn 2 end within the first MiB, of 3 within two (2026-11-24)."""

_STRINGS = re.compile(rb"\0(?:[\x21-\x7e]{1,8192}\0){8,}")
_MARK = re.compile(rb"\0(?:libc\.so\.6|GLIBC_2\.[\d.]+)\0")
_LIBRARY = re.compile(r"(?:lib|ld-)[\w.+-]*\.so[\w.]*")
_VERSION = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI|GCC)_[\w.]+")
_ENTRY = 24
_NULL_SYMBOL = bytes(_ENTRY)


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the first bytes of an extension tell.

    ``linkage`` is None where its tables do not lie there; ``undefined`` where its symbols were not recognised.
    """

    linkage: Linkage | None
    undefined: tuple[Undefined, ...] | None
    images: tuple[Image, ...]


class _FirstBytes(Elf):
    """An ELF file without its section table: the sections are those that were recognised."""

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        table = _string_table(self.data[:TABLES])
        if table is None:
            return ()
        start, size = table
        strings = Section(".dynstr", STRTAB, start, size, 0)
        first = _symbols_start(self.data, start, size)
        if first is None:
            return (strings,)
        symbols = Section(".dynsym", DYNSYM, first, start - first, 0)
        versions = Section(".gnu.version", GNU_VERSYM, (start + size + 1) // 2 * 2, (start - first) // _ENTRY * 2, 1)
        needs = Section(".gnu.version_r", GNU_VERNEED, (versions.offset + versions.size + 7) // 8 * 8, 0, 0)
        return (strings, symbols, versions, needs)


def read_beginning(data: bytes, name: str) -> Beginning:
    """Return what ``data``, the first bytes of the ELF file ``name``, tells. Raise `MalformedBinary` when it is no ELF file."""
    elf = _FirstBytes(data, name)
    images = device_code(data)
    if not elf.sections:
        return Beginning(None, None, images)
    strings = elf.sections[0]
    names = [part.decode() for part in data[strings.offset : strings.offset + strings.size].split(b"\0") if part]
    libraries = [one for one in names if _LIBRARY.fullmatch(one) and one != name.rpartition("/")[2]]
    versions = [one for one in names if _VERSION.fullmatch(one)]
    undefined = _undefined(elf)
    symbols = names if undefined is None else [one.name for one in undefined]
    return Beginning(linkage_of(libraries, versions, symbols), undefined, images)


def _undefined(elf: Elf) -> tuple[Undefined, ...] | None:
    """Return the undefined symbols with their versions; None where the tables are laid out otherwise (another linker, patchelf)."""
    if len(elf.sections) == 1:
        return None
    try:
        return elf.undefined
    except MalformedBinary:
        return None


def _string_table(head: bytes) -> tuple[int, int] | None:
    for match in _STRINGS.finditer(head):
        if _MARK.search(match[0]):
            return match.start(), len(match[0])
    return None


def _symbols_start(data: bytes, end: int, strings: int) -> int | None:
    """Walk back from the string table to the symbol table's all-zero first entry; None when no symbol table lies there."""
    position = end - _ENTRY
    while position >= 64:
        if data[position : position + _ENTRY] == _NULL_SYMBOL:
            return position
        if struct.unpack_from("<I", data, position)[0] >= strings:
            return None
        position -= _ENTRY
    return None


def device_code(data: bytes) -> tuple[Image, ...]:
    """Return the device code images whose headers lie in ``data``."""
    position = data.find(CONTAINER_MAGIC)
    while position >= 0:
        if position % 8 == 0:
            try:
                return read_images(data, position, len(data), cut=True)
            except MalformedBinary:  # the magic number stood there by chance
                pass
        position = data.find(CONTAINER_MAGIC, position + 8)
    return ()
