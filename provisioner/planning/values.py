"""The values of planning: what is asked for, each candidate with its decision, and the plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from provisioner.compat import StrEnum

HEAD_DIMS = (32, 64, 96, 128, 192, 256)
"""Head dims that flash-attn 2.x has kernels for (csrc/flash_attn/src/static_switch.h of 2.8.3.post2, read 2026-11-24)."""

DTYPES = ("fp16", "bf16")
FEATURES = ("backward", "varlen", "local", "softcap", "uneven", "dropout", "alibi", "kvcache")
"""``kvcache`` are the kernels that split keys and values among blocks: faster decoding, appending to a cache, paged caches."""


class Route(StrEnum):
    """How flash-attn gets into the environment."""

    WHEEL = "wheel"
    SOURCE = "source"
    SHIM = "shim"
    NONE = "none"


class BuildChoice(StrEnum):
    """Whether flash-attn may be, must be, or must not be compiled here."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


class Trust(StrEnum):
    """Who made a wheel, most trusted first."""

    WHEELHOUSE = "wheelhouse"
    OFFICIAL = "official"
    INDEX = "index"
    CONDA_FORGE = "conda-forge"
    COMMUNITY = "community"


@dataclass(frozen=True, slots=True)
class KernelSelection:
    """Which kernels a source build contains; ``preset`` is ``full``, ``unsloth`` or ``custom``.

    What is not selected raises an error at run time that names the rebuild command; it is never computed otherwise.
    """

    preset: str = "unsloth"
    head_dims: tuple[int, ...] = HEAD_DIMS
    dtypes: tuple[str, ...] = DTYPES
    features: tuple[str, ...] = FEATURES


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asks for, apart from the machine. None means: choose.

    ``python`` is ``"3.12"``, ``torch`` ``"2.9"`` or ``"2.9.1"``, ``cuda`` ``"12.8"``; ``backend`` is ``conda`` or ``venv``;
    ``only_flash_attn`` trims Unsloth and its packages; ``packages`` are further requirements.
    """

    python: str | None = None
    torch: str | None = None
    cuda: str | None = None
    flash_attn: str | None = None
    recipe: str | None = None
    backend: str | None = None
    build: BuildChoice = BuildChoice.AUTO
    kernels: KernelSelection | None = None
    allow_community: bool = False
    offline: bool = False
    only_flash_attn: bool = False
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way that was considered. ``code`` and ``reason`` say why it was rejected, or why it ranks where it does.

    ``id`` is readable and unique in its plan, such as ``wheel:2.8.3+cu12torch2.9-cp312`` or ``source:2.8.3.post2/torch2.13``.
    """

    id: str
    accepted: bool
    code: str
    reason: str
    rank: int | None = None
    route: Route = Route.NONE
    torch: str | None = None
    cuda: str | None = None
    python: str | None = None
    flash_attn: str | None = None


@dataclass(frozen=True, slots=True)
class FlashAttn:
    """The flash-attn of a plan. For ``source``, ``url`` is None until the sdist is looked up and ``sha256`` is the sdist's.

    ``archs`` are the GPU architectures that will be in the binary, as ``sm_80``; ``kernels`` is set for a source build and for a wheel of
    the own wheelhouse, whose ``url`` is a ``file:`` one.
    For ``shim``, ``version`` is the adapter's (``2.8.3+aten``, ``2.8.3+turing109``); what its label compiles is named by ``filename``,
    ``sha256`` and ``archs``, which ``aten`` leaves empty.
    """

    version: str
    url: str | None = None
    sha256: str | None = None
    archs: tuple[str, ...] = ()
    filename: str | None = None
    trust: Trust | None = None
    kernels: KernelSelection | None = None


@dataclass(frozen=True, slots=True)
class Estimates:
    """What carrying out the plan costs, as far as it can be known beforehand."""

    download_mib: int | None = None
    disk_mib: int | None = None
    build_cpu_seconds: int | None = None
    build_memory_mib: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The choice: exactly what has to be installed, and why.

    ``requirements`` are PyPI requirements for the resolver (flash-attn not among them); ``torch_index`` names the PyTorch
    index that must serve torch (``cu126`` …) or is None where the package index does; ``conda_specs`` are match specs for the
    conda backend; ``attention`` is the path that will run (``flash-attn``, ``adapter``, ``xformers``, ``sdpa``), Unsloth's where it is there;
    ``activation`` are environment variables set on activation; ``driver_floor`` is the lowest driver that runs it; ``toolkit`` is the nvcc
    version wanted where something is compiled, else None; ``backend`` is ``conda`` or ``venv``.
    """

    recipe: str
    route: Route
    python: str
    torch: str
    cuda: str | None
    flash_attn: FlashAttn | None
    overlays: tuple[str, ...] = ()
    xformers: str | None = None
    triton: str | None = None
    torch_index: str | None = None
    attention: str = "sdpa"
    gpu_classes: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    conda_specs: tuple[str, ...] = ()
    toolkit: str | None = None
    cxx_standard: int | None = None
    activation: dict[str, str] = field(default_factory=dict)
    driver_floor: str | None = None
    estimates: Estimates = Estimates()
    notes: tuple[str, ...] = ()
    backend: str = "conda"
    candidates: tuple[Candidate, ...] = ()

    @property
    def compiles(self) -> bool:
        """Say whether something is compiled for this plan: flash-attn itself, or the kernels inside an adapter."""
        chosen = self.flash_attn
        return self.route is Route.SOURCE or (self.route is Route.SHIM and chosen is not None and bool(chosen.archs))
