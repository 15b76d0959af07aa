"""nvcc ↔ the host compilers that it accepts, and torch's own gate on top."""

from __future__ import annotations

import functools

import msgspec

from provisioner.knowledge import tables


class HostCompilers(msgspec.Struct, frozen=True):
    """What one nvcc accepts: the highest major of gcc and clang (inclusive), MSVC's ``_MSC_VER`` range.

    ``torch_gcc_max`` is the highest gcc major that torch's extension builder lets pass, None where it only warns.
    """

    cuda: str
    gcc_max: int
    clang_max: int
    msvc_min: str
    msvc_max: str
    torch_gcc_max: int | None
    source: str
    date: str


@functools.cache
def host_compilers() -> tuple[HostCompilers, ...]:
    """Return one row per CUDA version, oldest first."""
    return tables.rows("compilers", HostCompilers)


@functools.lru_cache(maxsize=256)
def for_nvcc(nvcc: str) -> HostCompilers | None:
    """Return the row for an nvcc version (``"12.8"``, ``"12.8.93"``), None for one that is not known."""
    wanted = ".".join(nvcc.split(".")[:2])
    return next((row for row in host_compilers() if row.cuda == wanted), None)


def gcc_max(nvcc: str) -> int | None:
    """Return the highest gcc major that this nvcc accepts, torch's gate included; None for an unknown nvcc."""
    row = for_nvcc(nvcc)
    if row is None:
        return None
    return row.gcc_max if row.torch_gcc_max is None else min(row.gcc_max, row.torch_gcc_max)


def clang_max(nvcc: str) -> int | None:
    """Return the highest clang major that this nvcc accepts, None for an unknown nvcc."""
    row = for_nvcc(nvcc)
    return row.clang_max if row else None
