"""flash-attn's releases and what each can do, and the ports by others."""

from __future__ import annotations

import functools

import msgspec
from packaging.version import Version

from provisioner.knowledge import tables


class FlashAttnRelease(msgspec.Struct, frozen=True):
    """One release on the package index, which holds source distributions only.

    ``archs`` are the compute capabilities that its setup.py can compile (9.0 from nvcc 11.8, 10.0 and 12.0 from nvcc 12.8);
    ``arch_variable`` is the environment variable that selects among them. ``api`` is ``1`` or ``2`` (``2`` has ``flash_attn_varlen_func``).
    ``max_torch`` is the last torch line that its ``-std`` compiles against unpatched. ``cu13_wheel_name`` says whether its own wheel
    look-up knows CUDA 13. ``translation_units`` counts its ``.cu`` files. ``inferred`` marks releases not read themselves.
    """

    version: str
    sdist: str
    sha256: str
    released: str
    requires_python: str
    yanked: bool
    api: str
    module: str
    archs: tuple[str, ...]
    arch_variable: str | None
    min_cuda: str
    dtypes: tuple[str, ...]
    head_dim_max: int
    head_dim_multiple: int
    cxx_standard: int
    max_torch: str | None
    cu13_wheel_name: bool
    source: str
    date: str
    limits: str | None = None
    translation_units: int | None = None
    inferred: bool = False
    note: str | None = None


class Port(msgspec.Struct, frozen=True):
    """Somebody else's attention kernels or adapter; ``archs`` empty means any GPU.

    ``provides_flash_attn`` says whether it installs a package named ``flash_attn``; ``cuda_below`` is exclusive. An empty ``head_dims`` means
    that no limit is known. ``package`` is a requirement for the package index, None where there is none.
    """

    name: str
    commit: str | None
    archs: tuple[str, ...]
    module: str
    provides_flash_attn: bool
    forward: bool
    backward: bool
    varlen: bool
    dtypes: tuple[str, ...]
    head_dims: tuple[int, ...]
    cuda_min: str | None
    cuda_below: str | None
    torch_min: str | None
    licence: str | None
    package: str | None
    note: str
    source: str
    date: str


@functools.cache
def releases() -> tuple[FlashAttnRelease, ...]:
    """Return the releases from 1.0.0 on, newest first."""
    return tables.rows("flash_attn", FlashAttnRelease)


@functools.cache
def _by_version() -> dict[Version, FlashAttnRelease]:
    return {Version(release.version): release for release in releases()}


@functools.lru_cache(maxsize=256)
def release(version: str) -> FlashAttnRelease | None:
    """Return the release of that version (a local label is ignored), None when the package index has none."""
    return _by_version().get(Version(Version(version).public))


@functools.cache
def ports() -> tuple[Port, ...]:
    """Return the ports and adapters by others."""
    return tables.rows("flash_attn_ports", Port)
