"""What a translation unit costs: CPU-seconds and peak memory, from measured units.

A unit costs a fixed part (headers, and what all its kernels share) and a part for each kernel that it instantiates
(`provisioner.building.instances`). Both were fitted to units of 2.8.3.post2 and 1.0.9 that were compiled with nvcc 13.0.88 on
2026-11-24 and 2026-11-25, one arch each: user seconds and the resident size of the largest process. In seconds (kernels):
forward 64: 103 (32) and 30 (3); forward 128: 105 (26); forward 256: 159 (44); backward 64: 155 (42); backward 128: 156 (42); split 64:
244 (52) and 57 (10); split 128: 217 (52). Backward units with fewer kernels were seen on a busy machine only, in the
proportion that is used here. A further arch repeats the device compile inside the unit: twice the time (212 s against 103 s for
sm_80 + sm_90), the same peak.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.building import instances, shapes

if TYPE_CHECKING:
    from provisioner.building.releases import Release
    from provisioner.building.selection import Kernel, Selection


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU-seconds, and the most memory that its processes hold at once in MiB."""

    seconds: float
    peak_mib: int


HOST = Cost(75.0, 2600)
"""flash_api.cpp: host code alone."""

STUBS = Cost(6.0, 700)
LINK = Cost(3.0, 600)

_FIXED = {"fwd": 22.0, "bwd": 60.0, "split": 16.0}
_EACH = {
    "fwd": {64: 2.5, 128: 3.2, 256: 3.1},
    "bwd": {64: 2.3, 128: 2.3, 256: 3.0},
    "split": {64: 4.4, 128: 3.9, 256: 4.5},
}
"""Direction → head dim → seconds for a kernel. Backward and split of 256 were not measured: forward's ratio of 256 to 128 and a little more."""

_PEAK_GIB = {"fwd": {64: 3.6, 128: 4.6, 256: 4.3}, "bwd": {64: 5.9, 128: 6.0}, "split": {64: 3.6, 128: 3.9}}
_MARGIN = 1.05
"""On top of the measured peak: the driver, the host compiler and the shell beside the largest process."""

_GENERATION_1 = {"fwd": Cost(47.4, 850), "bwd": Cost(97.8, 950)}


def unit_cost(
    direction: str, head_dim: int, causal: bool, features: Collection[str], passes: int = 1, archs: Sequence[str] | None = None
) -> Cost:
    """Return what one unit of a 2.x release costs: ``direction`` is ``fwd``, ``bwd`` or ``split``.

    ``passes`` is the number of architectures; ``archs`` names them where block shapes are limited to theirs.
    """
    each, peaks = _EACH[direction], _PEAK_GIB[direction]
    count = instances.count(direction, head_dim, causal, features, shapes.gpus_of(archs) if archs else None)
    seconds = _FIXED[direction] + each[_nearest(each, head_dim)] * count
    return Cost(round(seconds * passes, 1), round(peaks[_nearest(peaks, head_dim)] * 1024 * _MARGIN))


def _nearest(measured: Collection[int], head_dim: int) -> int:
    return min(measured, key=lambda dim: abs(dim - head_dim))


def limited_to(archs: Sequence[str], release: str | None) -> Sequence[str] | None:
    """Return the archs to whose block shapes a build of ``release`` is limited, None where every shape is compiled."""
    return archs if release in shapes.RELEASES else None


def kernel_cost(kernel: Kernel, release: Release, selection: Selection, archs: Sequence[str]) -> Cost:
    """Return what the unit of ``kernel`` costs when compiled for ``archs``."""
    if release.generation == 1:
        base = _GENERATION_1.get(kernel.direction, _GENERATION_1["bwd"])
        return Cost(base.seconds * len(archs), base.peak_mib)
    limited = limited_to(archs, release.version)
    features = selection.kernels.features
    return unit_cost(str(kernel.direction), kernel.head_dim, bool(kernel.causal), features, len(archs), limited)
