"""Machines that are refused before any candidate is weighed: what is wrong, what works there, and what would have to change."""

from __future__ import annotations

from functools import lru_cache

from provisioner.capability import ComputeCapability
from provisioner.errors import NoRoute
from provisioner.knowledge import archs, drivers, torch_builds
from provisioner.machine.facts import Gpu, Machine
from provisioner.planning.driver_rules import first_driver
from provisioner.planning.numbers import numbers
from provisioner.planning.situation import Situation, is_jetson, knows_gpus, nvidia, processor_of
from provisioner.planning.values import Request

TURING = ComputeCapability(7, 5)
VOLTA = ComputeCapability(7, 0)

BROKEN = {
    "driver-not-running": "an NVIDIA GPU is in this machine, but no driver runs it",
    "driver-lib-mismatch": "the kernel driver and the driver library have different versions",
    "cuda-unavailable": "the GPU's device files cannot be opened",
    "wsl-libcuda-not-found": "WSL's link to the Windows driver is broken",
    "gpu-lost": "a GPU has fallen off the bus or does not answer",
    "nvidia-smi-hangs": "nvidia-smi does not answer",
}
"""Faults that make a GPU unusable, with their sentence. Such a machine is never planned as one without a GPU."""

REPAIRS = {
    "driver-not-running": "install or reload the NVIDIA driver (for a GPU older than Turing one of branch 580 at most), then `nvidia-smi` must list the GPU",
    "driver-lib-mismatch": "reboot, or reload the nvidia kernel module: the driver was updated under a running system",
    "cuda-unavailable": "start the container with the GPU (`docker run --gpus all`), or let your user open /dev/nvidia*",
    "wsl-libcuda-not-found": "run `wsl --update` in Windows, restart WSL, and install no Linux driver inside it",
    "gpu-lost": "reboot; when it comes back, look at `dmesg` for Xid errors",
    "nvidia-smi-hangs": "look at `dmesg` for Xid errors and reboot",
}


def refuse_unsupported(machine: Machine, request: Request) -> None:
    """Raise `NoRoute` for a machine that nothing here can serve; the error says what works there."""
    _refuse_system(machine, request)
    _refuse_broken_driver(machine)
    _refuse_gpus(machine)
    _refuse_newer_driver(machine)


def _refuse_system(machine: Machine, request: Request) -> None:
    platform, torch = machine.platform, machine.software.torch or ""
    system = (platform.system or "").lower()
    if not nvidia(machine) and (any(gpu.vendor == "amd" for gpu in machine.gpus) or "+rocm" in torch):
        raise _no(
            "rocm",
            "this is a ROCm machine (AMD GPU), and every route here is for CUDA",
            "flash-attn has a ROCm path of its own (Composable Kernel or Triton), built from its source; SDPA works in PyTorch for ROCm",
            "build it there: GPU_ARCHS=… BUILD_TARGET=rocm pip install --no-build-isolation flash-attn",
        )
    if system == "darwin" or (platform.os or "").lower().startswith("macos"):
        raise _no("macos", "macOS has no CUDA", "torch runs on Metal with SDPA; Unsloth offers MLX there", "use a Linux machine")
    if platform.wsl == "1":
        raise _no("wsl1", "WSL 1 cannot reach a GPU", "WSL 2 can", "convert it: wsl --set-version <distribution> 2")
    if is_windows(machine) and not request.allow_community:
        raise _no(
            "native-windows",
            "environments are made on Linux, and flash-attn publishes no Windows wheels",
            "WSL 2 works in full; on Windows itself, wheels that others build do (--allow-community plans one)",
            "install WSL 2: wsl --install, then run provision inside it",
        )
    if platform.musl and not platform.glibc:
        raise _no(
            "musl",
            f"this system's C library is musl {platform.musl}",
            "torch, CUDA and flash-attn are built against glibc",
            "use a glibc distribution, for example a Debian or Ubuntu image",
        )
    processor = processor_of(machine)
    if processor not in ("x86_64", "aarch64"):
        raise _no("processor", f"torch has no CUDA builds for {processor}", None, "use an x86_64 or aarch64 machine")
    if processor == "aarch64" and not machine.gpus and not is_jetson(machine) and not knows_gpus(machine):
        raise _no(
            "gpu-unknown",
            "an aarch64 machine whose GPU is not known: a Jetson, a Grace server and one without a GPU need different things",
            None,
            "name it: --gpu GH200, --gpu Orin …",
        )


def _refuse_broken_driver(machine: Machine) -> None:
    for fault in machine.faults:
        if fault.code in BROKEN:
            raise NoRoute(
                BROKEN[fault.code],
                why=fault.detail,
                hints=[REPAIRS[fault.code], "provision doctor"],
                code=fault.code,
            )
    if not nvidia(machine) and machine.driver.version and machine.platform.os and knows_gpus_by_driver(machine):
        raise NoRoute(
            f"driver {machine.driver.version} is installed, but no GPU is visible",
            why="hidden by CUDA_VISIBLE_DEVICES, not passed into this container, or gone",
            hints=["nvidia-smi -L", "provision doctor", "plan for a GPU by name: --gpu"],
            code="gpu-not-visible",
        )


def knows_gpus_by_driver(machine: Machine) -> bool:
    """Say whether a whole platform is described, so that a driver without GPUs is a contradiction and not an omission."""
    return machine.platform.kernel is not None


def _refuse_gpus(machine: Machine) -> None:
    for gpu in nvidia(machine):
        capability = gpu.capability
        if capability is not None and capability < VOLTA:
            _refuse_old(machine, gpu, capability)
        if capability is not None and VOLTA < capability < TURING:
            raise _no(
                "arch-unsupported",
                f"{gpu.name or 'this GPU'} has compute capability {capability}, which is Xavier's",
                "no flash-attn and no torch on the package index has kernels for it; NVIDIA's own JetPack torch runs SDPA",
                "use JetPack's torch with SDPA",
            )
    unnamed = [gpu.name for gpu in nvidia(machine) if gpu.compute_capability is None]
    if unnamed and not any(gpu.compute_capability for gpu in nvidia(machine)):
        raise _no(
            "gpu-unknown",
            f"the compute capability of {unnamed[0] or 'the GPU'} is not known",
            "its name does not decide it",
            "state it: --gpu sm_XX (nvidia-smi --query-gpu=compute_cap --format=csv tells)",
        )


def _refuse_newer_driver(machine: Machine) -> None:
    """A driver of a later branch than the last one for these GPUs does not see them; where it sees others, those are what is there."""
    given = nvidia(machine)
    last = [found.last_branch for gpu in given if gpu.capability and (found := archs.arch(gpu.capability)) and found.last_branch]
    branch = numbers(machine.driver.version or "")[:1]
    if not given or len(last) < len(given) or not branch or machine.platform.wsl == "2" or is_windows(machine):
        return
    if branch[0] > max(last):
        raise _no(
            "driver-too-new",
            f"driver {machine.driver.version} does not see {given[0].name or 'this GPU'}",
            f"{max(last)} is the last driver branch for it",
            f"install a driver of branch {max(last)} or older",
        )


def _refuse_old(machine: Machine, gpu: Gpu, capability: ComputeCapability) -> None:
    generation = "Pascal" if capability.major == 6 else "Maxwell" if capability.major == 5 else "Kepler"
    what = f"{gpu.name or 'this GPU'} is {generation} (compute capability {capability})"
    hints = ["use a GPU of compute capability 7.0 or newer for Unsloth, 8.0 for flash-attn"]
    others = sorted({one.capability for one in nvidia(machine) if one.capability is not None and one.capability >= VOLTA})
    if others:
        named = " ".join(f"--gpu {one.sm}" for one in others)
        hints.insert(0, f"plan for the others alone ({named}) and hide this one from programs with CUDA_VISIBLE_DEVICES")
    raise NoRoute(
        f"{what}: no flash-attn was ever built for it, and Unsloth needs 7.0",
        why=_what_works(capability),
        hints=hints,
        code=f"arch-unsupported-{generation.lower()}",
    )


XFORMERS_FIRST = ComputeCapability(5, 0)
"""Where xformers' CUTLASS operator starts (xformers/ops/fmha/cutlass.py of 0.0.35, read 2026-11-24); it calls torch's own kernels."""


@lru_cache(maxsize=64)
def _what_works(capability: ComputeCapability) -> str:
    """Return what attention there is on a GPU below 7.0: by the newest torch that still has kernels for it."""
    found = [build for build in torch_builds.builds() if build.machine == "x86_64" and build.cuda and build.runs_on(capability)]
    if not found:
        return "no torch 2.x holds kernels for it either"
    newest = found[-1]
    place = f"PyTorch's {newest.index} index" if newest.index else "the package index"
    paths = "SDPA and xformers' CUTLASS operator work" if capability >= XFORMERS_FIRST else "SDPA works (its plain path)"
    return f"PyTorch's {paths} there: torch {newest.torch} for CUDA {newest.cuda} ({place}) is the newest with kernels for it"


def driver_hint(situation: Situation) -> str:
    """Return which driver to update to: the first that knows the GPU, then the least for each CUDA line that can serve all GPUs."""
    windows, have = situation.windows_driver, drivers.parse(situation.driver or "0")
    floors = {
        drivers.floor(cuda, windows=windows): f"runs CUDA {cuda.split('.')[0]}"
        for cuda in ("11.8", "12.8", "13.0")
        if all(archs.runs_code_of(cuda, capability) for capability in situation.capabilities)
    }
    if (first := first_driver(situation)) and have < drivers.parse(first):
        have = drivers.parse(first)
        floors = {first: f"is the first that knows {situation.capabilities[-1].sm}", **floors}
    shown = (f"{driver} {what}" for driver, what in floors.items() if driver == first or drivers.parse(driver) > have)
    return f"update the driver: {', '.join(shown)}"


def is_windows(machine: Machine) -> bool:
    """Say whether this is Windows itself, not WSL."""
    named = (machine.platform.os or "").lower().startswith(("windows", "microsoft windows"))
    return machine.platform.wsl not in ("1", "2") and (named or machine.platform.system == "windows")


def _no(code: str, what: str, why: str | None, hint: str) -> NoRoute:
    return NoRoute(what, why=why, hints=[hint], code=code)
