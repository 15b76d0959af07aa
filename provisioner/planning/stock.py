"""What can be had: torch builds, flash-attn wheels and flash-attn releases, with their facts ready for comparison."""

from __future__ import annotations

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.planning.recipe import Stack
from provisioner.planning.values import KernelSelection, Route, Trust
from provisioner.planning.verdict import Verdict


class TorchStock(msgspec.Struct, frozen=True):
    """One build of torch for one processor. ``index`` None means the package index; ``label`` is its local version there.

    ``archs`` are the compute capabilities with binary kernels, ``ptx`` those that the driver can compile up from.
    """

    torch: str
    cuda: str | None
    index: str | None
    label: str
    archs: tuple[ComputeCapability, ...]
    pythons: frozenset[str]
    glibc: tuple[int, ...]
    cxx11_abi: bool | None
    cxx_standard: int
    size_mib: int = 800
    ptx: tuple[ComputeCapability, ...] = ()


class WheelStock(msgspec.Struct, frozen=True):
    """One flash-attn wheel. ``cuda`` is ``(12,)`` where the name gives the major alone; ``abi`` is the label in the name (None without
    one), ``real_abi`` what the wheel has; ``driver_cuda`` is the CUDA that the driver must know itself. ``kernels`` and ``key`` (of its
    build) are known of wheels of the own wheelhouse alone."""

    version: str
    cuda: tuple[int, ...]
    torch: str
    python: str
    processor: str
    system: str
    abi: bool | None
    real_abi: bool | None
    url: str
    filename: str
    sha256: str | None
    trust: Trust
    glibc: tuple[int, ...] | None
    archs: tuple[ComputeCapability, ...]
    kernels: KernelSelection | None = None
    key: str = ""
    driver_cuda: str | None = None


class ReleaseStock(msgspec.Struct, frozen=True):
    """One flash-attn release as source; ``archs`` are those that it has gencodes for, ``max_torch`` the last that it compiles against."""

    version: str
    filename: str
    sha256: str
    archs: tuple[ComputeCapability, ...]
    cxx_standard: int
    max_torch: str | None


class AdapterStock(msgspec.Struct, frozen=True):
    """The 2.x adapter in one version; ``source`` is the release whose kernels are compiled for ``archs``, None where nothing is."""

    version: str
    kernels: str
    archs: tuple[ComputeCapability, ...]
    source: ReleaseStock | None


class Partners(msgspec.Struct, frozen=True):
    """The xformers and triton that belong to a torch release, None where there is none."""

    xformers: str | None
    triton: str | None


class Draft(msgspec.Struct, frozen=True, eq=False):
    """One way to be judged: a stack with one Python, and the wheel, release or adapter that brings flash-attn.

    ``order`` is its place in the recipe: stack, Python, flash-attn version. ``flaw`` is what speaks against it on every machine.
    Drafts are told apart by identity, each being made once. Those of one ``group`` share stack and route, and the version where it is no wheel: what the stack's rules see.
    """

    id: str
    route: Route
    stack: Stack
    torch: TorchStock
    python: str
    order: tuple[int, int, int]
    wheel: WheelStock | None = None
    release: ReleaseStock | None = None
    adapter: AdapterStock | None = None
    summary: str = ""
    flaw: Verdict | None = None
    group: int = 0

    @property
    def version(self) -> str | None:
        """The flash-attn version, None without one."""
        for stock in (self.wheel, self.release, self.adapter):
            if stock is not None:
                return stock.version
        return None

    @property
    def compiles(self) -> bool:
        """Whether something is compiled: a release, or the adapter's own kernels."""
        return self.source is not None

    @property
    def source(self) -> ReleaseStock | None:
        """The release that is compiled, None where nothing is."""
        return self.adapter.source if self.adapter is not None else self.release
