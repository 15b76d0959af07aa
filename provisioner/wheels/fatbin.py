"""Reading the device code of an extension: which GPU architectures it holds binaries (cubins) and PTX for.

The format is not documented; what is used here was read from files made by nvcc 13.0 with known options and checked against
``cuobjdump`` 13.5 on real wheels (2026-11-24): a fat binary is a 16-byte header (magic, version 1, header size, payload
size) and a chain of entries (kind, header size, payload size, …, SM number at byte 28, flags at byte 40, uncompressed size at byte 56).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from provisioner.compat import StrEnum
from provisioner.wheels.elf import MAGIC, Buffer, Elf
from provisioner.wheels.malformed import MalformedBinary

SECTIONS = (".nv_fatbin", "__nv_relfatbin")
"""Where nvcc puts device code: what the driver loads, and relocatable code, which counts only where it is not linked yet."""

_CONTAINER = struct.Struct("<IHHQ")
_ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
CONTAINER_MAGIC = struct.pack("<IHH", 0xBA55ED50, 1, 16)
_RELOCATABLE = b"--compile-only"
"""Among the options of PTX that only the device linker reads; in a whole file its section tells."""

_LZ4, _ZSTD = 0x2000, 0x8000
_ARCH_SPECIFIC, _FAMILY_SPECIFIC = 0x100000, 0x200000
_CUBIN_ARCH_SPECIFIC = 0x800
"""In the ``e_flags`` of cubins made before CUDA 13 (ELF ABI version below 8)."""

MOST_UNCOMPRESSED = 64 * 2**20
"""Bytes that one image may expand to here; the largest of torch 2.14.1 stays far below."""


class Kind(StrEnum):
    """What an image is: machine code, PTX that the driver compiles, or input of the device linker."""

    CUBIN = "sm"
    PTX = "compute"
    LTO = "lto"


_KINDS = {1: Kind.PTX, 2: Kind.CUBIN, 8: Kind.LTO}


@dataclass(frozen=True, slots=True)
class Image:
    """One piece of device code: where its payload lies in the file and for which architecture it is (``sm_90a``, ``compute_90``)."""

    kind: Kind
    arch: str
    offset: int
    size: int
    compression: str | None
    full_size: int


def read_images(data: Buffer, start: int, end: int, *, cut: bool = False) -> tuple[Image, ...]:
    """Return the images of the fat binaries in ``data[start:end]``.

    With ``cut``, ``data`` is only the beginning of a file: what lies beyond it is left out, also the payload of the last image,
    and PTX for the device linker is left out too, since no section table tells it from what the driver loads.
    """
    images: list[Image] = []
    position = start
    while (position := _next_container(data, position, end)) + _CONTAINER.size <= end:
        if data[position : position + 8] != CONTAINER_MAGIC:
            if cut and images:  # the section ends here; where it ends is not known without the section table
                break
            raise MalformedBinary(f"unknown device code at byte {position}")
        *_, header, size = _CONTAINER.unpack_from(data, position)
        first, last = position + header, position + header + size
        if last > end and not cut:
            raise MalformedBinary(f"the device code at byte {position} is cut off")
        images += _entries(data, first, min(last, end), linked_only=cut)
        position = last
    return tuple(images)


def _next_container(data: Buffer, position: int, end: int) -> int:
    """Skip the zero padding between fat binaries (they are aligned to 8 bytes)."""
    position = (position + 7) // 8 * 8
    while position + 8 <= end and data[position : position + 8] == bytes(8):
        position += 8
    return position


def _entries(data: Buffer, position: int, end: int, *, linked_only: bool) -> list[Image]:
    images = []
    while position + _ENTRY.size <= end:
        kind, _version, header, size, packed, _, _, _, sm, _, _, flags, _, full = _ENTRY.unpack_from(data, position)
        if header < _ENTRY.size or size > 2**40:
            raise MalformedBinary(f"unreadable device code entry at byte {position}")
        relocatable = _RELOCATABLE in data[position + _ENTRY.size : position + header]
        if kind in _KINDS and not (linked_only and relocatable):
            images.append(_image(data, _KINDS[kind], sm, flags, position + header, packed or size, full or size))
        position += header + size
    return images


def _image(data: Buffer, kind: Kind, sm: int, flags: int, offset: int, size: int, full: int) -> Image:
    compression = "zstd" if flags & _ZSTD else "lz4" if flags & _LZ4 else None
    suffix = "a" if flags & _ARCH_SPECIFIC else "f" if flags & _FAMILY_SPECIFIC else ""
    if kind is Kind.CUBIN and not suffix and compression is None and _old_arch_specific(data, offset):
        suffix = "a"
    return Image(kind, f"{kind}_{sm}{suffix}", offset, size, compression, full)


def _old_arch_specific(data: Buffer, offset: int) -> bool:
    header = data[offset : offset + 64]
    if len(header) < 64 or header[:4] != MAGIC:
        return False
    flags: int = struct.unpack_from("<I", header, 48)[0]
    return header[8] < 8 and bool(flags & _CUBIN_ARCH_SPECIFIC)


def images_of(elf: Elf) -> tuple[Image, ...]:
    """Return all device code of an extension or object file; empty where it has none."""
    for name in SECTIONS:
        if (section := elf.section(name)) and (images := read_images(elf.data, section.offset, section.offset + section.size)):
            return images
    return ()


def content(data: Buffer, image: Image) -> bytes:
    """Return the machine code or PTX of ``image``, uncompressed. Raise `MalformedBinary` when it cannot be unpacked."""
    stored = data[image.offset : image.offset + image.size]
    if image.compression is None:
        return stored
    if image.full_size > MOST_UNCOMPRESSED:
        raise MalformedBinary(f"device code at byte {image.offset} claims {image.full_size} bytes")
    if image.compression == "lz4":
        return unpack_lz4(stored, image.full_size)
    return _unpack_zstd(stored, image.full_size)


def _unpack_zstd(stored: bytes, full_size: int) -> bytes:
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompress(stored, max_output_size=full_size, allow_extra_data=True)
    except (zstandard.ZstdError, MemoryError) as error:
        raise MalformedBinary(f"compressed device code cannot be unpacked: {error}") from error


def unpack_lz4(stored: bytes, full_size: int) -> bytes:
    """Return ``full_size`` bytes from an LZ4 block (no frame, as fatbinary writes it for speed and before CUDA 12.8)."""
    out = bytearray()
    position = 0
    try:
        while len(out) < full_size:
            token = stored[position]
            length, position = _lz4_length(stored, token >> 4, position + 1)
            out += stored[position : position + length]
            position += length
            if len(out) >= full_size or position >= len(stored):
                break
            distance = stored[position] | stored[position + 1] << 8
            length, position = _lz4_length(stored, token & 15, position + 2)
            _lz4_copy(out, distance, min(length + 4, full_size - len(out)))
    except IndexError as error:
        raise MalformedBinary("compressed device code is cut off") from error
    if len(out) != full_size:
        raise MalformedBinary("compressed device code has another length than it says")
    return bytes(out)


def _lz4_length(stored: bytes, length: int, position: int) -> tuple[int, int]:
    if length == 15:
        while (more := stored[position]) == 255:
            length += 255
            position += 1
        length += more
        position += 1
    return length, position


def _lz4_copy(out: bytearray, distance: int, length: int) -> None:
    if not 0 < distance <= len(out):
        raise MalformedBinary("compressed device code refers to bytes before its start")
    while length > 0:  # a match may overlap what it writes
        piece = out[len(out) - distance : len(out) - distance + length]
        out += piece
        length -= len(piece)
