"""What a translation unit costs: CPU-seconds and peak memory, from measured units.

Measured 2026-11-24 on 2.8.3.post2 and 1.0.9 with nvcc 13.0.88, one process at a time, for one arch: user seconds and the resident
size of the largest process. ``trim`` units were measured with dropout, ALiBi, softcap and local windows left out together; one
feature is taken as the fourth root (the split kernels know no dropout: the third root). A further arch repeats the device
compile inside the unit: twice the time (212 s against 103 s for sm_80 + sm_90), the same peak.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.building.releases import Release
from provisioner.building.selection import Direction, Kernel, Selection


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU-seconds, and the most memory that its processes hold at once in MiB."""

    seconds: float
    peak_mib: int


HOST = Cost(75.0, 2600)
"""flash_api.cpp: host code alone."""

STUBS = Cost(6.0, 700)
LINK = Cost(3.0, 600)

_GENERATION_2 = {
    # direction: {head dim: (seconds, GiB)}, measured for 64, 128 and 256 (forward); the rest lies between or beside them
    Direction.FORWARD: {64: (103.1, 3.6), 128: (105.1, 4.6), 256: (158.6, 4.3)},
    Direction.BACKWARD: {64: (155.3, 5.9), 128: (156.1, 6.0)},
    Direction.SPLIT: {64: (244.0, 3.6), 128: (216.6, 3.9)},
}
_MARGIN = 1.05
"""On top of the measured peak: the driver, the host compiler and the shell beside the largest process."""

_TRIMMED = {Direction.FORWARD: 29.6 / 103.1, Direction.BACKWARD: 29.6 / 103.1, Direction.SPLIT: 57.4 / 244.0}
_FACTORS = {
    Direction.FORWARD: ("dropout", "alibi", "softcap", "local"),
    Direction.BACKWARD: ("dropout", "alibi", "softcap", "local"),
    Direction.SPLIT: ("alibi", "softcap", "local"),
}
_GENERATION_1 = {Direction.FORWARD: Cost(47.4, 850), Direction.BACKWARD: Cost(97.8, 950)}


def kernel_cost(kernel: Kernel, release: Release, selection: Selection, archs: int) -> Cost:
    """Return what the unit of ``kernel`` costs when compiled for ``archs`` architectures."""
    if release.generation == 1:
        base = _GENERATION_1.get(kernel.direction, _GENERATION_1[Direction.BACKWARD])
        return Cost(base.seconds * archs, base.peak_mib)
    measured = _GENERATION_2[kernel.direction]
    seconds, gib = measured[min(measured, key=lambda dim: abs(dim - kernel.head_dim))]
    names = _FACTORS[kernel.direction]
    left_out = sum(name not in selection.kernels.features for name in names)
    seconds *= _TRIMMED[kernel.direction] ** (left_out / len(names))
    return Cost(seconds * archs, round(gib * 1024 * _MARGIN))
