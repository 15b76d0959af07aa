"""NVIDIA driver ↔ CUDA, in the Linux column and the Windows column.

Under WSL the driver calls itself by its Windows number, so a WSL machine asks with ``windows=True``.
"""

from __future__ import annotations

import functools

import msgspec

from provisioner.knowledge import tables

Version = tuple[int, ...]


class BundledDriver(msgspec.Struct, frozen=True):
    """The driver that a CUDA toolkit brings along; ``update`` is 0 for the first release of that CUDA version."""

    cuda: str
    update: int
    linux: str
    windows: str | None
    source: str
    date: str


class MinorCompatibility(msgspec.Struct, frozen=True):
    """The lowest driver that runs every toolkit of one CUDA major (minor-version compatibility, CUDA 11 on)."""

    cuda_major: int
    linux: str
    windows: str
    source: str
    date: str
    note: str | None = None


class DriverBranch(msgspec.Struct, frozen=True):
    """A release branch such as 535 and the CUDA version that its drivers report."""

    branch: int
    cuda: str
    source: str
    date: str


class JetsonDriver(msgspec.Struct, frozen=True):
    """A driver of the Jetson line, which has its own numbers: ``540.4`` is L4T 36.4 and reports CUDA 12.6."""

    branch: str
    cuda: str
    l4t: str
    source: str
    date: str


class ForwardCompatibility(msgspec.Struct, frozen=True):
    """The ``cuda-compat`` packages of a range of CUDA versions: on which older driver branches they work, and on which GPUs."""

    cuda_first: str
    cuda_last: str
    branches: tuple[int, ...]
    gpus: str
    source: str
    date: str
    note: str | None = None


@functools.cache
def bundled() -> tuple[BundledDriver, ...]:
    """Return the toolkit releases with their drivers, newest first."""
    return tables.rows("cuda_drivers", BundledDriver)


@functools.cache
def minor_compatibility() -> dict[int, MinorCompatibility]:
    """Return the lowest driver per CUDA major."""
    return {row.cuda_major: row for row in tables.rows("cuda_minor_compatibility", MinorCompatibility)}


@functools.cache
def branches() -> tuple[DriverBranch, ...]:
    """Return the driver branches, oldest first."""
    return tables.rows("driver_branches", DriverBranch)


@functools.cache
def jetson() -> tuple[JetsonDriver, ...]:
    """Return the Jetson drivers."""
    return tables.rows("jetson_drivers", JetsonDriver)


@functools.cache
def forward_compatibility() -> tuple[ForwardCompatibility, ...]:
    """Return what is known of ``cuda-compat``, oldest CUDA first."""
    return tables.rows("cuda_forward_compatibility", ForwardCompatibility)


@functools.lru_cache(maxsize=4096)
def parse(version: str) -> Version:
    """Return ``"535.104.05"`` as ``(535, 104, 5)``. Raises ValueError for text that is not a version."""
    return tuple(int(part) for part in version.strip().split("."))


@functools.lru_cache(maxsize=256)
def floor(cuda: str, *, windows: bool) -> str:
    """Return the lowest driver that runs programs built with CUDA ``cuda`` (``"12.8"``, ``"12"``).

    From CUDA 11 on any driver from the major's first one does (minor-version compatibility), and always the driver that the
    toolkit itself brings; before that each toolkit needs its own. Raises KeyError for a CUDA that the tables do not know.
    """
    row = minor_compatibility().get(parse(cuda)[0])
    if row is None:
        return native_floor(cuda, windows=windows)
    shared = row.windows if windows else row.linux
    try:
        return min(shared, native_floor(cuda, windows=windows), key=parse)
    except KeyError:
        return shared


@functools.lru_cache(maxsize=256)
def native_floor(cuda: str, *, windows: bool) -> str:
    """Return the lowest driver that itself offers CUDA ``cuda``; this is what PTX compiled at run time needs.

    Where NVIDIA states no Windows number (13.0 on) it is the branch: ``580.0``. Raises KeyError for an unknown CUDA.
    """
    wanted = parse(cuda)[:2]
    rows = [row for row in bundled() if parse(row.cuda) == wanted]
    if not rows:
        raise KeyError(f"no driver is known for CUDA {cuda}")
    first = min(rows, key=lambda row: row.update)
    if not windows:
        return first.linux
    return first.windows or f"{parse(first.linux)[0]}.0"


@functools.lru_cache(maxsize=256)
def first_that_offers(cuda: str, *, windows: bool) -> str | None:
    """Return the first driver that reports CUDA ``cuda`` in nvidia-smi, by its branch where no toolkit brings it; None before CUDA 8.0.

    For a CUDA newer than the tables it is the newest branch that they know: the driver is at least of that one.
    """
    try:
        return native_floor(cuda, windows=windows)
    except KeyError:
        known = [row for row in branches() if parse(row.cuda) <= parse(cuda)]
        return f"{known[-1].branch}.0" if known else None


@functools.lru_cache(maxsize=4096)
def supports(driver: str, cuda: str, *, windows: bool) -> bool:
    """Say whether ``driver`` runs programs built with CUDA ``cuda``, PTX apart (see `compiles_ptx_of`).

    False also for a CUDA newer than the tables. Raises ValueError for a driver that is not a version.
    """
    try:
        return parse(driver) >= parse(floor(cuda, windows=windows))
    except KeyError:
        return False


@functools.lru_cache(maxsize=4096)
def compiles_ptx_of(driver: str, cuda: str, *, windows: bool) -> bool:
    """Say whether ``driver`` can compile PTX that CUDA ``cuda`` wrote: it must be of that CUDA version or a newer one.

    Source: CUDA Compatibility guide, limits of minor-version compatibility (read 2026-11-24).
    """
    offered = cuda_of(driver, windows=windows)
    return offered is not None and parse(offered) >= parse(cuda)[:2]


@functools.lru_cache(maxsize=4096)
def cuda_of(driver: str, *, windows: bool) -> str | None:
    """Return the CUDA version that ``driver`` reports in nvidia-smi, by its branch; None before the first known branch.

    A Windows driver carries its branch's number or one a little above (531.14 is of 530); Jetson's 540.x are told apart.
    """
    version = parse(driver)
    for row in jetson():
        if version[:2] == parse(row.branch) and not windows:
            return row.cuda
    known = [row for row in branches() if row.branch <= version[0]]
    return known[-1].cuda if known else None


def runs_forward_compatible(driver: str, cuda: str) -> bool:
    """Say whether NVIDIA's ``cuda-compat`` for ``cuda`` is known to work over this Linux driver, on the GPUs that it supports."""
    branch, wanted = parse(driver)[0], parse(cuda)[:2]
    return any(
        parse(row.cuda_first) <= wanted <= parse(row.cuda_last) and branch in row.branches for row in forward_compatibility()
    )
