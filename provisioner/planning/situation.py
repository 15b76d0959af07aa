"""What planning needs of a machine, worked out once: the facts as comparable numbers, and what the request adds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, drivers
from provisioner.machine.facts import Gpu, Machine
from provisioner.planning.numbers import minor, numbers
from provisioner.planning.recipe import Recipe
from provisioner.planning.values import BuildChoice, Request

ASSUMED = (ComputeCapability(8, 0),)
"""What a plan is made for when nothing states the GPU: the oldest one that flash-attn 2.x runs on."""

ASSUMED_JETSON = (ComputeCapability(8, 7),)
"""The same for a Jetson: Orin, the board of JetPack 6."""

DATA_CENTRE = frozenset(
    [
        "A2",
        "A10",
        "A10G",
        "A16",
        "A30",
        "A40",
        "A100",
        "A800",
        "L2",
        "L4",
        "L20",
        "L40",
        "L40S",
        "L40G",
        "H20",
        "H100",
        "H200",
        "H800",
        "GH200",
        "B100",
        "B200",
        "B300",
        "GB200",
        "GB300",
        "T4",
        "T4G",
        "V100",
        "V100S",
        "P4",
        "P40",
        "P100",
        "M40",
        "M60",
        "K80",
        "Tesla",
    ]
)
"""Words of names that belong to data-centre GPUs, which alone may run a newer CUDA through the forward-compatibility
package (NVIDIA, CUDA Compatibility, "Forward Compatibility", read 2026-11-24)."""


@dataclass(frozen=True, slots=True)
class Situation:
    """A machine and a request as the rules see them. Tuples of numbers stand for versions; None means not known.

    ``capabilities`` are distinct and ascending; ``pythons`` are the host's, with whether they have headers, and matter for
    the ``venv`` backend only; ``unreachable`` maps a source's name to the place that did not answer. Where only the CUDA
    version is known that the driver offers (``driver_offers``), ``driver`` is the first that offers it.
    """

    capabilities: tuple[ComputeCapability, ...]
    assumed_gpu: bool
    processor: str
    windows_driver: bool
    native_windows: bool
    driver: str | None
    driver_offers: str | None
    glibc: tuple[int, ...] | None
    wsl2: bool
    jetson: bool
    l4t: str | None
    data_centre: bool
    backend: str
    pythons: dict[str, bool]
    compilers: tuple[int, ...] | None
    toolkits: tuple[tuple[int, ...], ...]
    unreachable: dict[str, str]
    build: BuildChoice
    build_reason: str | None
    allow_community: bool
    gpu_needed: bool

    @property
    def key(self) -> ComputeCapability:
        """The lowest compute capability: what all GPUs must share."""
        return self.capabilities[0]

    @property
    def driver_here(self) -> str:
        """What is known of this machine's driver, as a clause."""
        return f"this machine's offers CUDA {self.driver_offers}" if self.driver_offers else f"this machine has {self.driver}"


def situation(machine: Machine, request: Request, recipes: Sequence[Recipe] = ()) -> Situation:
    """Return what the rules need to know; the recipe and its overlays have a say in building and in whom to trust."""
    platform = machine.platform
    wsl2 = platform.wsl == "2"
    windows = platform.system == "windows" or (platform.os or "").lower().startswith(("microsoft windows", "windows"))
    glibc = numbers(platform.glibc)[:2] if platform.glibc else None
    pythons = _pythons(machine)
    meant = _gpu_meant(request, recipes)
    stated = stated_capabilities(machine)
    needed = bool(nvidia(machine)) or not knows_gpus(machine) or meant is not None
    return Situation(
        capabilities=stated or ((meant,) if meant and not is_jetson(machine) else capabilities_of(machine)),
        assumed_gpu=not stated and needed,
        processor=processor_of(machine),
        windows_driver=wsl2 or windows,
        native_windows=windows and not wsl2,
        driver=_driver(machine) or _first_that_offers(machine, windows=wsl2 or windows),
        driver_offers=None if _driver(machine) else _offered(machine),
        glibc=glibc or None,
        wsl2=wsl2,
        jetson=is_jetson(machine),
        l4t=platform.jetson,
        data_centre=bool(nvidia(machine)) and all(is_data_centre(gpu.name) for gpu in nvidia(machine)),
        backend=backend_of(machine, request),
        pythons=pythons,
        compilers=tuple(numbers(c.version)[0] for c in machine.compilers if c.kind == "gcc" and numbers(c.version))
        if machine.compilers or pythons
        else None,
        toolkits=tuple(numbers(toolkit.version)[:2] for toolkit in machine.toolkits),
        unreachable={}
        if request.offline
        else {
            source.name: source.url or source.name
            for source in machine.sources
            if source.reachable is False and machine.answers(source.name) is False
        },
        build=build_choice(request, recipes),
        build_reason=next((recipe.build.reason for recipe in recipes if recipe.build.reason), None),
        allow_community=request.allow_community or any(recipe.allow_community for recipe in recipes),
        gpu_needed=needed,
    )


def _gpu_meant(request: Request, recipes: Sequence[Recipe]) -> ComputeCapability | None:
    """Return the oldest GPU of the recipe that the user names, None where none is named or it is for machines without one."""
    if request.recipe is None or not recipes:
        return None
    return next((known.capability for known in archs.archs() if recipes[0].suits(known.capability)), None)


def capabilities_of(machine: Machine) -> tuple[ComputeCapability, ...]:
    """Return the distinct compute capabilities to plan for, ascending; where none is stated, the one that is assumed."""
    return stated_capabilities(machine) or (ASSUMED_JETSON if is_jetson(machine) else ASSUMED)


def stated_capabilities(machine: Machine) -> tuple[ComputeCapability, ...]:
    """Return the distinct compute capabilities that the facts state, ascending."""
    return tuple(sorted({gpu.capability for gpu in nvidia(machine) if gpu.capability is not None}))


def build_choice(request: Request, recipes: Sequence[Recipe]) -> BuildChoice:
    """Return whether to compile: the user's word, else the recipes'; a choice of kernels asks for a build by itself."""
    if request.build is not BuildChoice.AUTO:
        return request.build
    if request.kernels is not None:
        return BuildChoice.ALWAYS
    stated = [recipe.build.default for recipe in recipes if recipe.build.default is not BuildChoice.AUTO]
    return stated[-1] if stated else BuildChoice.AUTO


def nvidia(machine: Machine) -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of a machine."""
    return tuple(gpu for gpu in machine.gpus if gpu.vendor == "nvidia")


def knows_gpus(machine: Machine) -> bool:
    """Say whether the list of GPUs is an answer, so that an empty one means that there is none.

    A probe says so with the fault ``no-gpu``; facts that describe the whole platform but list no GPU and no driver say it too,
    and so does a CPU build of torch. Where flash-attn is installed, somebody had a GPU in mind, and a Jetson board has one always.
    A fragment, such as one error message, does not: there the GPU is simply not stated.
    """
    if machine.gpus or any(fault.code == "no-gpu" for fault in machine.faults):
        return True
    if machine.driver.version is not None or machine.software.flash_attn is not None or is_jetson(machine):
        return False
    platform = machine.platform
    windows = (platform.os or "").lower().startswith(("windows", "microsoft windows")) or platform.system == "windows"
    described = platform.glibc is not None or (platform.wsl is not None and not windows)
    return described or (machine.software.torch or "").endswith("+cpu")


def processor_of(machine: Machine) -> str:
    """Return the processor's name as wheels spell it; unstated means ``x86_64``."""
    name = (machine.platform.machine or "x86_64").lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def is_jetson(machine: Machine) -> bool:
    """Say whether this is a Jetson board: by its L4T release or kernel, its GPU, or, where no GPU is named, NVIDIA's own build of torch.

    NVIDIA's containers for aarch64 servers hold such a torch too (2.6.0a0+….nv24.11 on a GH200: vllm-project/vllm#16427), so beside
    a GPU that is known the torch says nothing.
    """
    if machine.platform.jetson or (machine.platform.kernel or "").endswith("-tegra"):
        return True
    if processor_of(machine) != "aarch64":
        return False
    names = " ".join(gpu.name or "" for gpu in machine.gpus).lower()
    capabilities = {str(gpu.compute_capability) for gpu in machine.gpus if gpu.compute_capability}
    if not capabilities.isdisjoint(("5.3", "6.2", "7.2", "8.7")) or "nvgpu" in names:
        return True
    return not capabilities and ".nv2" in (machine.software.torch or "")


def is_data_centre(name: str | None) -> bool:
    """Say whether a GPU's name is that of a data-centre product."""
    words = (name or "").replace("-", " ").replace("/", " ").split()
    return not DATA_CENTRE.isdisjoint(words) and "RTX" not in words


def backend_of(machine: Machine, request: Request) -> str:
    """Return the backend: the one asked for, else ``conda`` unless every channel is known not to answer."""
    if request.backend:
        return request.backend
    return "venv" if machine.answers("conda-channel") is False else "conda"


def _driver(machine: Machine) -> str | None:
    """Return the driver version where it is one: dotted numbers."""
    version = (machine.driver.version or "").strip()
    return version if re.fullmatch(r"\d{2,4}(\.\d+){0,3}", version) else None


def _offered(machine: Machine) -> str | None:
    """Return the CUDA version that the driver offers, where one is known that the tables reach."""
    cuda = ".".join(str(number) for number in numbers(machine.driver.cuda or "")[:2])
    return cuda if "." in cuda and drivers.first_that_offers(cuda, windows=False) else None


def _first_that_offers(machine: Machine, *, windows: bool) -> str | None:
    cuda = _offered(machine)
    return drivers.first_that_offers(cuda, windows=windows) if cuda else None


def _pythons(machine: Machine) -> dict[str, bool]:
    """Return the host's Pythons (``"3.11"``) and whether any of that version has its headers."""
    found: dict[str, bool] = {}
    for install in machine.pythons:
        name = minor(install.version)
        found[name] = found.get(name, False) or install.headers
    return found
