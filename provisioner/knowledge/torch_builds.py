"""Released torch builds: which CUDA, architectures, Pythons and ABI each has, and which index serves it."""

from __future__ import annotations

import functools

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, tables


class TorchBuild(msgspec.Struct, frozen=True):
    """One build of a torch release.

    ``index`` is None where the package index serves it, else the name of the PyTorch index (``cu126``, ``cpu``); ``variant`` is its
    local label on the PyTorch index. ``cuda`` None is the CPU build. ``archs`` are compute capabilities with kernels,
    empty where they were not read. ``cxx11_abi`` is libstdc++'s new ABI; ``cxx_standard`` the least that its headers accept;
    ``triton`` the release that it requires. ``pythons`` may end in ``t`` (free-threaded); ``glibc`` is the floor that its wheels state.
    """

    torch: str
    cuda: str | None
    variant: str
    index: str | None
    machine: str
    archs: tuple[str, ...]
    pythons: tuple[str, ...]
    cxx11_abi: bool
    cxx_standard: int
    triton: str | None
    released: str
    glibc: str
    source: str
    date: str
    note: str | None = None

    @property
    def minor(self) -> str:
        """The release line, such as ``2.9``."""
        return ".".join(self.torch.split(".")[:2])

    def runs_on(self, capability: ComputeCapability) -> bool | None:
        """Say whether it has kernels for a GPU; None where its architectures are not known."""
        if not self.archs:
            return None if self.cuda else False
        return archs.covers(self.archs, capability)


@functools.cache
def builds() -> tuple[TorchBuild, ...]:
    """Return every build: oldest torch first, x86_64 before aarch64, CUDA ascending, CPU last."""
    return tables.rows("torch_builds", TorchBuild)


@functools.cache
def _by_release() -> dict[str, tuple[TorchBuild, ...]]:
    found: dict[str, list[TorchBuild]] = {}
    for build in builds():
        found.setdefault(build.torch, []).append(build)
        found.setdefault(build.minor, []).append(build)
    return {release: tuple(named) for release, named in found.items()}


@functools.lru_cache(maxsize=4096)
def find(torch: str, *, cuda: str | None = None, machine: str = "x86_64") -> tuple[TorchBuild, ...]:
    """Return the CUDA builds of ``torch`` (``"2.9"`` or ``"2.9.1"``), those of one CUDA version when given."""
    named = _by_release().get(torch.split("+")[0], ())
    return tuple(build for build in named if build.machine == machine and build.cuda is not None and cuda in (None, build.cuda))


@functools.cache
def releases() -> tuple[str, ...]:
    """Return the torch releases, oldest first."""
    return tuple(dict.fromkeys(build.torch for build in builds()))


class LineCompatibility(msgspec.Struct, frozen=True):
    """The further torch lines beside which wheels built for one line were seen to load."""

    built_for: str
    loads_on: tuple[str, ...]
    source: str
    date: str
    note: str | None = None


@functools.cache
def line_compatibility() -> tuple[LineCompatibility, ...]:
    """Return what was tried across torch lines."""
    return tables.rows("torch_line_compatibility", LineCompatibility)


@functools.lru_cache(maxsize=256)
def wheel_loads_on(built_for: str, line: str) -> bool:
    """Say whether an extension built for torch ``built_for`` (``"2.10"``) is known to load beside torch ``line``."""
    return built_for == line or any(row.built_for == built_for and line in row.loads_on for row in line_compatibility())
