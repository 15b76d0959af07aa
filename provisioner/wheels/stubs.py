"""Recognising architectures that a flash-attn was "built for" without having a single working kernel for them.

flash-attn 2.x compiles for sm_70 and sm_75 without complaint, but every kernel is then a stub that prints a FATAL line and computes
nothing (csrc/flash_attn/src/flash_fwd_launch_template.h of 2.8.3.post2; a unit takes 18 s instead of 195 s; measured 2026-11-24).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from provisioner.wheels.elf import Buffer
from provisioner.wheels.fatbin import Image, Kind, content

MESSAGE = b"FATAL: FlashAttention requires building with sm version"
"""What the stub prints; it stands in the constants of the machine code."""

_MESSAGE_IN_PTX = ", ".join(str(byte) for byte in MESSAGE).encode()
"""PTX writes the bytes of a constant as decimal numbers."""

FIRST_REAL = 80
"""The first SM number that flash-attn 2.x has real kernels for; only device code below it can be such a stub."""

SAMPLES = 8
"""How many of an architecture's smallest images are read: a stub is far smaller than any attention kernel."""

LARGEST_STUB = 4 * 2**20
"""Bytes above which an image is not looked into (a stub unit for sm_75 is below 0.4 MB)."""


def stub_archs(data: Buffer, images: Iterable[Image]) -> tuple[str, ...]:
    """Return those architectures whose flash-attn kernels are stubs. Raise `MalformedBinary` on unreadable device code."""
    by_arch: dict[str, list[Image]] = {}
    for image in images:
        if image.kind is not Kind.LTO and image.full_size <= LARGEST_STUB and _number(image.arch) < FIRST_REAL:
            by_arch.setdefault(image.arch, []).append(image)
    return tuple(arch for arch, found in by_arch.items() if any(_is_stub(data, image) for image in _smallest(found)))


def _number(arch: str) -> int:
    return int(re.sub(r"\D", "", arch))


def _smallest(images: list[Image]) -> list[Image]:
    return sorted(images, key=lambda image: image.full_size)[:SAMPLES]


def _is_stub(data: Buffer, image: Image) -> bool:
    code = content(data, image)
    return (MESSAGE if image.kind is Kind.CUBIN else _MESSAGE_IN_PTX) in code
