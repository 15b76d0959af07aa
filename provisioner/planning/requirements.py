"""What the environment is made of: requirements for the Python resolver, match specs for the conda solver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.knowledge import packages
from provisioner.planning.build_rules import nvcc_for
from provisioner.planning.values import Request, Route

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.recipe import Recipe
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft

UNSLOTH_ONLY = ("unsloth", "unsloth_zoo", "bitsandbytes")
"""Left out where their wheels do not install (glibc below 2.24 and 2.28) and on Jetson."""


def requirements(situation: Situation, draft: Draft, recipe: Recipe, request: Request) -> tuple[str, ...]:
    """Return the PyPI requirements of a chosen draft, flash-attn itself not among them."""
    stack = draft.stack
    index = draft.torch.index
    label = f"+{index}" if index and "/" not in index else ""
    wanted = [f"torch=={stack.torch}{label}"]
    if uses_xformers(situation, draft) and not request.only_flash_attn:
        wanted.append(f"xformers=={stack.xformers}")
    if stack.triton:
        wanted.append(f"triton=={stack.triton}")
    if not request.only_flash_attn:
        wanted += [name for name in recipe.packages.requirements if not (stack.trimmed and _name(name) in UNSLOTH_ONLY)]
    if draft.route is not Route.NONE:
        wanted += recipe.packages.flash_attn_runtime
    return tuple(dict.fromkeys((*wanted, *request.packages)))


def uses_xformers(situation: Situation, draft: Draft) -> bool:
    """Say whether xformers goes in: its wheels are for x86_64 only (package index, 2026-11-24), and a GPU must be there."""
    return draft.stack.xformers is not None and situation.processor == "x86_64" and situation.gpu_needed


def xformers_loads(draft: Draft) -> bool:
    """Say whether the operators of the stack's xformers load beside its torch: both must want the same CUDA runtime.

    It comes from the package index whichever index serves torch (`provisioner.locking.pypi_part`).
    """
    needed = cudart(draft)
    return needed is None or draft.torch.cuda is None or needed == draft.torch.cuda.split(".")[0]


def cudart(draft: Draft) -> str | None:
    """Return the CUDA major whose runtime the stack's xformers needs, None where there is none or that was not read."""
    known = packages.xformers_release(draft.stack.xformers) if draft.stack.xformers else None
    return known.cudart if known else None


def conda_specs(situation: Situation, draft: Draft, catalog: Catalog) -> tuple[str, ...]:
    """Return the match specs of the conda backend: Python, a C compiler for Triton, and for a build nvcc of the plan's CUDA.

    conda-forge's cuda-nvcc starts at CUDA 12.0; a Jetson has its own toolkit.
    """
    subdir = "linux-aarch64" if situation.processor == "aarch64" else "linux-64"
    specs = [f"python {draft.python}.*", "pip"]
    if not draft.compiles:
        return (*specs, f"gcc_{subdir}") if draft.torch.cuda else tuple(specs)
    cuda = nvcc_for(situation, draft)
    limit = catalog.gcc_max(cuda or "")
    specs += [f"gxx_{subdir} <{limit + 1}" if limit else f"gxx_{subdir}", "ninja"]
    if cuda is not None and int(cuda.split(".")[0]) >= 12 and not situation.jetson:
        specs += [f"cuda-version {cuda}.*", "cuda-nvcc", "cuda-cudart-dev"]
    return tuple(specs)


def _name(requirement: str) -> str:
    for index, character in enumerate(requirement):
        if not (character.isalnum() or character in "_-."):
            return requirement[:index]
    return requirement
