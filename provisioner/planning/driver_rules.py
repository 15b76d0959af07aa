"""Does the driver run what a build brings: minor-version compatibility, forward compatibility, and code compiled from PTX.

Sources: NVIDIA CUDA Compatibility guide (minor version, forward compatibility) and CUDA toolkit release notes, tables 2 and 3,
read 2026-11-24. Inside WSL and on Windows the driver has its Windows number, so the Windows column counts.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, drivers
from provisioner.planning.numbers import minor

if TYPE_CHECKING:
    from provisioner.planning.situation import Situation


def needs_forward_compatibility(situation: Situation, cuda: str | None) -> bool:
    """Say whether this CUDA runs here through NVIDIA's forward-compatibility package alone (data-centre GPUs, Linux)."""
    if cuda is None or situation.driver is None or situation.jetson or situation.windows_driver:
        return False
    if drivers.supports(situation.driver, cuda, windows=False) or not situation.data_centre:
        return False
    return drivers.runs_forward_compatible(situation.driver, cuda)


def first_driver(situation: Situation) -> str | None:
    """Return the first driver that knows the newest GPU, where that is more than its CUDA may ask for.

    Ada and Hopper came with CUDA 11.8 and its driver branch (the branch counts, since not every driver of it is as new as the toolkit's own),
    Blackwell with CUDA 12.8. Source: release notes of these toolkits (first with compute capability 8.9 and 9.0, 10.0 and 12.0), read
    2026-11-24.
    """
    if not situation.gpu_needed or situation.jetson:
        return None
    return _first_driver(situation.capabilities[-1], windows=situation.windows_driver)


BLACKWELL = 10
ADA = ComputeCapability(8, 9)


@lru_cache(maxsize=256)
def _first_driver(capability: ComputeCapability, *, windows: bool) -> str | None:
    if capability.major >= BLACKWELL:
        return drivers.native_floor("12.8", windows=windows)
    return f"{drivers.parse(drivers.native_floor('11.8', windows=windows))[0]}.0" if capability >= ADA else None


def older_than_gpu(situation: Situation, cuda: str | None) -> bool:
    """Say whether a GPU is newer than this CUDA: torch and its libraries then run there on kernels of an earlier minor, and slower.

    Training on a GB10 did 140,000 tokens a second with CUDA 13.0, 49,000 with 12.8, which ends at sm_120 (autoresearch#207, read 2026-11-27).
    """
    if cuda is None or not situation.gpu_needed:
        return False
    return not all(archs.compiles_for(cuda, capability) for capability in situation.capabilities)


def driver_objection(situation: Situation, cuda: str | None) -> str | None:
    """Return why the driver cannot run a CUDA version, None when it can or when the driver is not known."""
    if cuda is None or situation.driver is None or situation.jetson:
        return None
    if (first := first_driver(situation)) and drivers.parse(situation.driver) < drivers.parse(first):
        return f"{situation.capabilities[-1].sm} needs driver {first} or newer; {situation.driver_here}"
    windows = situation.windows_driver
    if drivers.supports(situation.driver, cuda, windows=windows) or needs_forward_compatibility(situation, cuda):
        return None
    wanted = drivers.floor(cuda, windows=windows)
    column = "Windows driver" if windows else "driver"
    return f"CUDA {minor(cuda)} needs {column} {wanted} or newer; {situation.driver_here}"


def compiles_ptx(situation: Situation, cuda: str | None) -> bool:
    """Say whether the driver compiles PTX of this toolkit: it must know the toolkit's own CUDA version, not just its major.

    Minor-version compatibility excludes PTX (CUDA Compatibility guide, "Application Considerations").
    """
    if cuda is None or situation.driver is None:
        return True
    return drivers.compiles_ptx_of(situation.driver, cuda, windows=situation.windows_driver)


def wheel_driver(situation: Situation, cuda: str) -> str | None:
    """Return the first driver that knows a CUDA version itself, None when this machine's is not older (or not known)."""
    floor = drivers.native_floor(cuda, windows=situation.windows_driver)
    if situation.driver is None or situation.jetson or not situation.gpu_needed:
        return None
    return floor if drivers.parse(situation.driver) < drivers.parse(floor) else None


@lru_cache(maxsize=16384)
def uncovered(capabilities: tuple[ComputeCapability, ...], archs: tuple[ComputeCapability, ...]) -> tuple[ComputeCapability, ...]:
    """Return the compute capabilities that no binary of ``archs`` runs on (same major, minor not above the GPU's)."""
    return tuple(cc for cc in capabilities if not any(cc.runs_binary_of(arch) for arch in archs))


def jit_covered(capabilities: tuple[ComputeCapability, ...], ptx: tuple[ComputeCapability, ...]) -> bool:
    """Say whether each capability could run code compiled by the driver from some PTX: any PTX not newer than the GPU."""
    return bool(ptx) and all(min(ptx) <= cc for cc in capabilities)
