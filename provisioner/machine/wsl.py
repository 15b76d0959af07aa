"""Windows Subsystem for Linux: which generation, and whether the Windows driver's libraries are there."""

from __future__ import annotations

import re

from provisioner.machine.facts import Fault, Machine, Platform
from provisioner.machine.system import System

LIBRARIES = "/usr/lib/wsl/lib"
GPU_DEVICE = "/dev/dxg"

_RELEASE = re.compile(r"(\d+)\.(\d+).*?(microsoft|wsl)", re.IGNORECASE)


def wsl_of_kernel(release: str) -> str:
    """Return ``"1"``, ``"2"`` or ``"no"`` for a kernel release.

    WSL1 translates system calls and calls itself ``4.4.0-19041-Microsoft``; WSL2 runs a real kernel, 4.19 or later, named
    ``…-microsoft-standard-WSL2`` (microsoft/WSL#4555, #5663).
    """
    match = _RELEASE.match(release)
    if match is None:
        return "no"
    return "1" if (int(match[1]), int(match[2])) < (4, 19) else "2"


def facts(system: System, known: Machine) -> Machine:
    """Return the WSL generation (None where the kernel cannot be seen), and missing GPU libraries as a fault."""
    release = known.platform.kernel
    if release is None:
        return Machine()
    wsl = wsl_of_kernel(release)
    if wsl == "no" and system.exists(GPU_DEVICE) and system.exists("/proc/sys/fs/binfmt_misc/WSLInterop"):
        wsl = "2"  # a kernel of the user's own, without the name
    faults: tuple[Fault, ...] = ()
    if wsl == "2" and system.exists(GPU_DEVICE) and not system.exists(f"{LIBRARIES}/libcuda.so.1"):
        detail = f"{GPU_DEVICE} is there, but {LIBRARIES}/libcuda.so.1 is not: the Windows NVIDIA driver is missing or too old"
        faults = (Fault("wsl-libcuda-not-found", detail),) if not known.platform.container else ()
    return Machine(platform=Platform(wsl=wsl), faults=faults)
