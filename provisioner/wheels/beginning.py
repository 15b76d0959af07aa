"""Reading an extension of which only the beginning is here: a remote wheel's member, inflated no further than needed.

A linked extension begins with its dynamic symbols, their names and versions, then come code and device code; the section table, which says
where all that lies, is at the very end. So the tables are recognised by their shape: the string table is a run of NUL-separated names
that holds ``libc.so.6`` or ``GLIBC_…``; GNU ld puts the symbols right before it and their versions right behind. Device code has a magic number.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from provisioner.wheels.elf import DYNSYM, GNU_VERNEED, GNU_VERSYM, STRTAB, Elf, Section, Undefined
from provisioner.wheels.fatbin import CONTAINER_MAGIC, Image, read_images
from provisioner.wheels.linkage import Linkage, is_torch_symbol, linkage_of
from provisioner.wheels.malformed import MalformedBinary

TABLES = 16 * 2**20
"""Bytes of the beginning in which the tables are looked for; those of flash-attn 2 end within the first MiB, of 3 within two (2026-11-24)."""

_STRINGS = re.compile(rb"\0(?:[\x21-\x7e]{1,8192}\0){8,}")
_MARK = re.compile(rb"\0(?:libc\.so\.6|GLIBC_2\.[\d.]+)\0")
_LIBRARY = re.compile(r"(?:lib|ld-)[\w.+-]*\.so[\w.]*")
_VERSION = re.compile(r"(?:GLIBC|GLIBCXX|CXXABI|GCC)_[\w.]+")
_OF_CUDART = re.compile(r"(?:__)?cuda[A-Z]")
_OF_LIBSTDCXX = re.compile(r"_Z(?:N?K?St|T[IV]N10__cxxabi|n[wa]|d[la])")
_OF_LIBC = re.compile(r"(?:mem(?:cpy|move|set|cmp)|str(?:len|cmp|ncmp|dup)|malloc|calloc|realloc|free|abort|open|close)$")
_ENTRY = 24
_MOST_PADDING = 64 * 1024
"""Bytes that ld may leave empty behind the string table, for names that it dropped (116 in vLLM 0.9.2's flash-attn)."""

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

    def __init__(self, data: bytes, name: str, recognised: tuple[Section, ...]) -> None:
        super().__init__(data, name)
        self._recognised = recognised

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        return self._recognised


def read_beginning(data: bytes, name: str) -> Beginning:
    """Return what ``data``, the first bytes of the ELF file ``name``, tells. Raise `MalformedBinary` when it is no ELF file."""
    Elf(data, name)
    images = device_code(data)
    table = _string_table(data[:TABLES])
    if table is None:
        return Beginning(None, None, images)
    strings = Section(".dynstr", STRTAB, *table, 0)
    names = [part.decode() for part in data[strings.offset : strings.offset + strings.size].split(b"\0") if part]
    libraries = [one for one in names if _LIBRARY.fullmatch(one) and one != name.rpartition("/")[2]]
    versions = [one for one in names if _VERSION.fullmatch(one)]
    undefined = _undefined(data, name, strings)
    symbols = names if undefined is None else [one.name for one in undefined]
    return Beginning(linkage_of(libraries, versions, symbols), undefined, images)


def _undefined(data: bytes, name: str, strings: Section) -> tuple[Undefined, ...] | None:
    """Return the undefined symbols with their versions; None where the tables are laid out otherwise (another linker, patchelf)."""
    readings = []
    for layout in _layouts(data, strings):
        with suppress(MalformedBinary):
            readings.append(_FirstBytes(data, name, layout).undefined)
    return max(readings, key=_plausibility, default=None)


def _plausibility(undefined: tuple[Undefined, ...]) -> int:
    """Count the symbols whose library is the one that their name belongs to: it tells a table of versions from one read with an offset."""
    score = 0
    for symbol in undefined:
        if _OF_CUDART.match(symbol.name):
            score += "libcudart" in (symbol.library or "")
        elif is_torch_symbol(symbol.name):
            score += symbol.library is None
        elif _OF_LIBSTDCXX.match(symbol.name):
            score += "libstdc++" in (symbol.library or "")
        elif _OF_LIBC.match(symbol.name):
            score += "libc.so" in (symbol.library or "")
    return score


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


def _layouts(data: bytes, strings: Section) -> Iterator[tuple[Section, ...]]:
    """Yield the ways in which the tables may lie, given the string table: ld may leave room behind it, and aligns what follows."""
    first = _symbols_start(data, strings.offset, strings.size)
    if first is None:
        return
    symbols = Section(".dynsym", DYNSYM, first, strings.offset - first, 0)
    end, size = strings.offset + strings.size, symbols.size // _ENTRY * 2
    needs = _version_needs(data, end, end + size + _MOST_PADDING, strings)
    if needs is None:
        return
    for start in range(needs - size - 6, needs - size + 1, 2):
        if start >= end:
            versions = Section(".gnu.version", GNU_VERSYM, start, size, 1)
            yield strings, symbols, versions, Section(".gnu.version_r", GNU_VERNEED, needs, 0, 0)


def _version_needs(data: bytes, start: int, end: int, strings: Section) -> int | None:
    """Return where the table of needed versions begins: its first entry names a library."""
    for position in range((start + 7) // 8 * 8, min(end, len(data) - 16), 8):
        version, count, file, auxiliary, _ = struct.unpack_from("<HHIII", data, position)
        if version == 1 and count and auxiliary == 16 and file < strings.size:
            name = strings.offset + file
            if _LIBRARY.fullmatch(data[name : data.find(b"\0", name)].decode("ascii", "replace")):
                return position
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
