"""May flash-attn be compiled here, and is there what compiles it: Python with headers, a host compiler, an nvcc that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.capability import ComputeCapability
from provisioner.planning.numbers import numbers
from provisioner.planning.values import BuildChoice, Request, Route
from provisioner.planning.verdict import Verdict

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft

INDEX_NVCC_MAJOR = 13
"""The package index holds a whole nvcc for CUDA 13 only; the cu12 wheels have ptxas and no nvcc (measured 2026-11-24)."""

CHANNEL_NVCC_FIRST = (12, 0)
"""conda-forge's cuda-nvcc starts at CUDA 12.0 (channel snapshot 2026-10-22)."""


def build_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """The user's or the recipe's choice between building and not building."""
    by_kernels = request.kernels is not None and request.build is not BuildChoice.ALWAYS  # a wheel that holds them will do
    if draft.route is Route.WHEEL and situation.build is BuildChoice.ALWAYS and not by_kernels:
        return Verdict("build-asked", "--build asks for flash-attn compiled here")
    if draft.adapter is not None and request.kernels is not None:
        return Verdict(
            "kernel-selection", "a choice of kernels is for flash-attn 2.x's own; the adapter's kernels are not chosen singly"
        )
    if draft.adapter is not None and not draft.compiles and situation.build is BuildChoice.ALWAYS:
        return Verdict(
            "build-asked", "--build asks for kernels compiled here, and the adapter over PyTorch's kernels compiles none"
        )
    if draft.compiles and situation.build is BuildChoice.NEVER:
        if request.build is BuildChoice.NEVER:
            return Verdict("build-not-allowed", "--no-build forbids compiling")
        return Verdict("build-not-asked", situation.build_reason or "the recipe compiles only with --build")
    return None


def python_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Is this Python on the host (venv backend), with its headers when something is compiled against it."""
    if situation.backend != "venv" or not situation.pythons:
        return None
    if draft.python not in situation.pythons:
        have = ", ".join(sorted(situation.pythons, key=numbers))
        return Verdict("python-unavailable", f"the venv backend uses a Python of this machine, which has {have}")
    if draft.compiles and not situation.pythons[draft.python]:
        text = f"Python {draft.python} lies here without its headers (Python.h), which a build includes"
        return Verdict("python-headers-missing", text)
    return None


def nvcc_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """For a build: is there an nvcc that knows the GPU, and with the venv backend a host compiler that it takes."""
    if not draft.compiles:
        return None
    return _nvcc_verdict(situation, draft, catalog) or _compiler_verdict(situation, draft, catalog)


def _nvcc_verdict(situation: Situation, draft: Draft, catalog: Catalog) -> Verdict | None:
    cuda = nvcc_for(situation, draft)
    if cuda is None:
        wanted = draft.torch.cuda or ""
        place = "the package index has a compiler for CUDA 13 only" if situation.backend == "venv" else "channels start at 12.0"
        text = f"compiling for torch with CUDA {wanted} needs an nvcc {wanted.split('.')[0]}.x: none on this machine, and {place}"
        return Verdict("nvcc-unavailable", text)
    for arch in compiled_archs(situation, draft):
        first, last = catalog.cuda_range(arch)
        if first and numbers(cuda) < first:
            return Verdict("nvcc-lacks-arch", f"nvcc {cuda} does not know {arch.sm}, which came with CUDA {first[0]}.{first[1]}")
        if last and numbers(cuda)[:2] > last:
            return Verdict("nvcc-lacks-arch", f"nvcc {cuda} has dropped {arch.sm}; CUDA {last[0]}.{last[1]} was the last with it")
    return None


def _compiler_verdict(situation: Situation, draft: Draft, catalog: Catalog) -> Verdict | None:
    if situation.backend != "venv" or situation.compilers is None:
        return None
    if not situation.compilers:
        return Verdict("compiler-missing", "a build needs g++, and this machine has none")
    limit = catalog.gcc_max(nvcc_for(situation, draft) or "")
    if limit and min(situation.compilers) > limit:
        text = f"nvcc {draft.torch.cuda} takes g++ up to {limit}; this machine has {min(situation.compilers)}"
        return Verdict("host-compiler-too-new", text)
    return None


def nvcc_for(situation: Situation, draft: Draft) -> str | None:
    """Return the CUDA version of the nvcc that would compile a draft, None where there is none.

    torch compares only the major of nvcc and its own CUDA (torch 2.14.1 utils/cpp_extension.py); the same minor is preferred.
    """
    cuda = draft.torch.cuda
    if cuda is None:
        return None
    wanted = numbers(cuda)[:2]
    if situation.jetson:
        return cuda
    if situation.backend == "conda" and wanted >= CHANNEL_NVCC_FIRST:
        return cuda
    if wanted[0] == INDEX_NVCC_MAJOR:
        return cuda
    if wanted in situation.toolkits:
        return cuda
    same = [toolkit for toolkit in situation.toolkits if toolkit[:1] == wanted[:1]]
    return ".".join(str(number) for number in max(same)) if same else None


def compiled_archs(situation: Situation, draft: Draft) -> tuple[ComputeCapability, ...]:
    """Return the architectures that a draft is compiled for on this machine; those of an adapter's kernels are fixed."""
    return draft.adapter.archs if draft.adapter is not None else build_archs(situation.capabilities)


def build_archs(capabilities: tuple[ComputeCapability, ...]) -> tuple[ComputeCapability, ...]:
    """Return the architectures to compile for these GPUs: one pass for each major, its lowest, since a cubin runs on newer minors.

    From 10.0 on flash-attn has gencodes for 10.0 and 12.0 alone (setup.py of 2.8.3.post2), which 10.3 and 12.1 run.
    """
    lowest: dict[int, ComputeCapability] = {}
    for capability in sorted(capabilities):
        base = ComputeCapability(capability.major, 0) if capability.major >= 10 else capability
        lowest.setdefault(capability.major, base)
    return tuple(lowest.values())


def not_compilable(
    capabilities: tuple[ComputeCapability, ...], archs: tuple[ComputeCapability, ...]
) -> tuple[ComputeCapability, ...]:
    """Return the GPUs that a release cannot be compiled for: its kernels are written per major, from the lowest minor named on.

    Binaries are pickier (none runs both on Orin and on other 8.x GPUs), but the source of sm_80 compiles for sm_86, sm_87 and sm_89
    (2.8.3.post2 for sm_86 measured 2026-11-24; flash-attention#1581 for Orin).
    """
    return tuple(cc for cc in capabilities if not any(cc.major == arch.major and cc >= arch for arch in archs))
