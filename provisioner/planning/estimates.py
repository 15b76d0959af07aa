"""What carrying out a plan costs: download, disk, and for a build CPU time and memory. Rough, from measured installs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from provisioner.planning.kernels import TURING_MEMORY_MIB, TURING_SECONDS, UNIT_MEMORY_MIB, build_seconds
from provisioner.planning.values import Estimates, KernelSelection

if TYPE_CHECKING:
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft

UNSLOTH_MIB = 900
"""Unsloth and what it pulls in, torch and CUDA libraries apart (install of 2026-11-24: 3.97 GiB in all with torch 2.8)."""

CUDA_LIBRARIES_MIB = 2300
"""cuBLAS, cuDNN, NCCL and the rest as wheels beside torch (same install)."""

WHEEL_MIB = {1: 111, 2: 180, 4: 256}
"""flash-attn wheels by number of architectures (flash-attention #1978; asset list)."""

TOOLCHAIN_MIB = 280
UNPACKED = 1.9
"""Bytes on disk per byte downloaded (7.4 GB from 3.97 GiB, same install)."""


def estimates(situation: Situation, draft: Draft, kernels: KernelSelection | None, archs: Sequence[str]) -> Estimates:
    """Return the estimates of a chosen draft; build figures only where something is compiled."""
    download = draft.torch.size_mib or 800
    download += CUDA_LIBRARIES_MIB if draft.torch.cuda else 0
    download += 0 if draft.stack.trimmed else UNSLOTH_MIB
    if draft.wheel is not None:
        download += WHEEL_MIB.get(len(draft.wheel.archs), 256)
    if situation.backend == "conda":
        download += 60
    if not draft.compiles:
        return Estimates(download_mib=download, disk_mib=round(download * UNPACKED))
    download += TOOLCHAIN_MIB
    if kernels is None:
        disk = round(download * UNPACKED) + 256
        return Estimates(download, disk, build_cpu_seconds=TURING_SECONDS, build_memory_mib=TURING_MEMORY_MIB)
    return Estimates(
        download_mib=download,
        disk_mib=round(download * UNPACKED) + 1024,
        build_cpu_seconds=build_seconds(kernels, archs, draft.version),
        build_memory_mib=UNIT_MEMORY_MIB,
    )
