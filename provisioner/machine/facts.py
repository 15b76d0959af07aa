"""What is known about a machine: facts only, each nullable, none of them judged.

A fact that no source stated is None (or an empty tuple), never a default. ``origins`` names, for a dotted fact
such as ``driver.version``, the source that answered. Sizes are MiB (2**20 bytes).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.capability import ComputeCapability


DESCRIBED = (None, "user", "report")
"""Sources of GPU facts that say what a GPU is, not that this machine has one."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. ``compute_capability`` is text such as ``"9.0"``; ``partition`` is ``mig``, ``vgpu`` or None.

    ``source`` is ``nvml``, ``nvidia-smi``, ``proc``, ``device-tree`` (Jetson), ``pci``, ``report``, ``user`` or ``name-guess``: the last means that the compute
    capability was looked up from the marketing name because nothing else answered.
    """

    name: str | None = None
    compute_capability: str | None = None
    memory_mib: int | None = None
    partition: str | None = None
    source: str | None = None
    vendor: str = "nvidia"

    @property
    def capability(self) -> ComputeCapability | None:
        """The compute capability as a comparable value."""
        from provisioner.capability import ComputeCapability

        return ComputeCapability.parse(self.compute_capability) if self.compute_capability else None


@dataclass(frozen=True, slots=True)
class Driver:
    """The NVIDIA driver: its version as it calls itself (the Windows number under WSL) and the newest CUDA it offers."""

    version: str | None = None
    cuda: str | None = None


@dataclass(frozen=True, slots=True)
class Platform:
    """Operating system facts. ``wsl`` is ``"no"``, ``"1"``, ``"2"`` or None where it cannot be told.

    ``machine`` is the processor (``x86_64``, ``aarch64``), ``system`` is ``linux``, ``windows``, ``darwin``. ``jetson`` holds the L4T release of a Jetson.
    """

    os: str | None = None
    glibc: str | None = None
    wsl: str | None = None
    machine: str | None = None
    system: str | None = None
    kernel: str | None = None
    musl: str | None = None
    container: str | None = None
    jetson: str | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """CPUs and memory that this process may use (cgroup limits applied), and free space by purpose.

    ``disk_free_mib`` maps ``prefix``, ``cache`` and ``tmp`` to MiB.
    """

    cpus: int | None = None
    memory_mib: int | None = None
    memory_available_mib: int | None = None
    swap_mib: int | None = None
    disk_free_mib: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Software:
    """Versions in the interpreter asked about (or in a pasted report), as the packages state them.

    ``torch`` keeps its local label (``2.5.1+cu124``); ``torch_cuda`` is None for a CPU build.
    """

    python: str | None = None
    torch: str | None = None
    torch_cuda: str | None = None
    nvcc: str | None = None
    flash_attn: str | None = None
    torch_cxx11_abi: bool | None = None
    xformers: str | None = None
    triton: str | None = None
    bitsandbytes: str | None = None
    unsloth: str | None = None
    transformers: str | None = None
    trl: str | None = None


@dataclass(frozen=True, slots=True)
class CudaToolkit:
    """A CUDA toolkit with a compiler: its real root (symlinks resolved) and its version, e.g. ``12.8.93``."""

    root: str
    version: str
    source: str


@dataclass(frozen=True, slots=True)
class HostCompiler:
    """A C++ compiler: ``kind`` is ``gcc`` or ``clang``, ``path`` the C++ driver."""

    kind: str
    path: str
    version: str


@dataclass(frozen=True, slots=True)
class PythonInstall:
    """An interpreter on this machine; ``headers`` says whether ``Python.h`` lies where it should."""

    path: str
    version: str
    headers: bool


@dataclass(frozen=True, slots=True)
class CondaInstall:
    """A conda-like tool: ``kind`` is conda, mamba, micromamba or pixi; ``envs`` are the prefixes it knows."""

    kind: str
    path: str
    root: str | None = None
    envs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A place that packages come from and whether it answers; ``reachable`` None means not tried.

    ``name`` is one of ``package-index``, ``conda-channel``, ``torch-index``, ``releases``, ``wheelhouse``, ``bundle``; ``url`` carries no credentials.
    """

    name: str
    reachable: bool | None = None
    url: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something on the machine that is broken as such, seen while probing: a stable code and the evidence.

    Of the driver: ``driver-not-running``, ``driver-lib-mismatch``, ``gpu-lost``, ``nvidia-smi-hangs``, ``cuda-unavailable`` (no permission),
    ``nvml-unusable``, ``mig-without-instance``, ``no-gpu`` (a container without its host's), ``wsl-libcuda-not-found``; of the probing itself:
    ``probe-failed``, ``probe-hangs``.
    """

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything that planning may know about a machine."""

    gpus: tuple[Gpu, ...] = ()
    driver: Driver = Driver()
    platform: Platform = Platform()
    resources: Resources = Resources()
    software: Software = Software()
    toolkits: tuple[CudaToolkit, ...] = ()
    compilers: tuple[HostCompiler, ...] = ()
    pythons: tuple[PythonInstall, ...] = ()
    conda: tuple[CondaInstall, ...] = ()
    cuda_visible_devices: str | None = None
    sources: tuple[Source, ...] = ()
    faults: tuple[Fault, ...] = ()
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def has_live_gpu(self) -> bool:
        """True when a probe found a GPU, so that something can be proved on it; one that a user or a report describes is not here."""
        return any(gpu.source not in DESCRIBED for gpu in self.gpus)

    def source(self, name: str) -> Source | None:
        """Return the first source of that name, None when it was not probed."""
        return next((source for source in self.sources if source.name == name), None)

    def answers(self, name: str) -> bool | None:
        """Say whether any source of that name answers: True, False, or None when none was tried."""
        tried = [source.reachable for source in self.sources if source.name == name and source.reachable is not None]
        return any(tried) if tried else None
