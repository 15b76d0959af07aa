"""GPU architectures ↔ the CUDA toolkits that can compile for them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.knowledge import tables


class Arch(msgspec.Struct, frozen=True):
    """An architecture: ``first_cuda`` None where it is older than the tables, ``last_cuda`` None while still supported.

    ``flash_attn`` says in words which releases run there. ``integrated`` marks the Tegra line before Thor: binaries for discrete GPUs
    of the same major do not run there (CUDA C++ Programming Guide, "Binary Compatibility"; bitsandbytes#1929 shows it on Orin).
    ``last_branch`` is the last driver branch that runs it, None while newer ones do.
    """

    compute_capability: str
    name: str
    first_cuda: str | None
    last_cuda: str | None
    flash_attn: str
    source: str
    date: str
    integrated: bool = False
    last_branch: int | None = None

    @property
    def capability(self) -> ComputeCapability:
        """The compute capability as a comparable value."""
        return ComputeCapability.parse(self.compute_capability)


@functools.cache
def archs() -> tuple[Arch, ...]:
    """Return every known architecture, oldest first."""
    return tables.rows("archs", Arch)


@functools.cache
def _by_capability() -> dict[ComputeCapability, Arch]:
    return {row.capability: row for row in archs()}


def arch(capability: ComputeCapability | str) -> Arch | None:
    """Return the architecture of a compute capability (``"7.5"``, ``"sm_75"``), None for one that is not known."""
    if isinstance(capability, str):
        capability = ComputeCapability.parse(capability)
    return _by_capability().get(capability)


def covers(built: Iterable[str], capability: ComputeCapability) -> bool:
    """Say whether binaries for the capabilities ``built`` run on a GPU."""
    return any(capability.runs_binary_of(ComputeCapability.parse(one)) for one in built)


@functools.lru_cache(maxsize=1024)
def compiles_for(cuda: str, capability: ComputeCapability) -> bool:
    """Say whether nvcc of CUDA ``cuda`` emits code for ``capability``; False for an unknown architecture."""
    known = arch(capability)
    if known is None:
        return False
    wanted = _number(cuda)
    after_first = known.first_cuda is None or wanted >= _number(known.first_cuda)
    return after_first and (known.last_cuda is None or wanted <= _number(known.last_cuda))


@functools.lru_cache(maxsize=1024)
def runs_code_of(cuda: str, capability: ComputeCapability) -> bool:
    """Say whether nvcc of CUDA ``cuda`` emits binaries that run on a GPU: its own, or those of an earlier minor of its major."""
    return any(capability.runs_binary_of(row.capability) and compiles_for(cuda, row.capability) for row in archs())


def _number(cuda: str) -> tuple[int, ...]:
    return tuple(int(part) for part in cuda.split(".")[:2])
