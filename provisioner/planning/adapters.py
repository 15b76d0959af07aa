"""The 2.x adapter as a candidate: a distribution named flash-attn for GPUs that upstream's 2.x has no kernels for.

Its version is a base inside the range of the xformers beside it, labelled by the kernels that compute: ``2.8.3+aten`` (PyTorch's own,
nothing to compile) or ``2.8.3+turing109`` (those of flash-attn 1.0.9 compiled for sm_75, PyTorch's where they end).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.capability import ComputeCapability
from provisioner.planning.numbers import covers, numbers
from provisioner.planning.stock import AdapterStock

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog

ATEN = "aten"
TURING = "turing109"
KERNELS: dict[str, tuple[ComputeCapability, ...]] = {ATEN: (), TURING: (ComputeCapability(7, 5),)}
"""The kernel sets, with the architectures that are compiled for each."""

TURING_RELEASE = "1.0.9"
"""The last release of flash-attn with Turing kernels."""

BASES = ("2.8.3", "2.8.1", "2.7.2")
"""Versions to stand for, newest first: what xformers 0.0.33 and newer, 0.0.32, and older ones take.

xformers compares ``flash_attn.__version__``, which is the base alone (imported beside the adapter: 0.0.30, 0.0.31.post1 and 0.0.32.post2,
2026-11-25). 2.8.2 is none of them: the distribution's 2.8.2+aten is above 0.0.32's bound for whoever compares that.
"""

FIRST_TORCH = (2, 6)
"""The oldest torch that the adapter is planned for; Unsloth's stacks here start at it."""


def adapter(catalog: Catalog, version: str) -> AdapterStock | None:
    """Return the adapter of a version such as ``2.8.3+aten``, None for a version that it never has."""
    _, _, kernels = version.partition("+")
    if kernels not in KERNELS:
        return None
    source = catalog.release(TURING_RELEASE) if kernels == TURING else None
    return AdapterStock(version, kernels, KERNELS[kernels], source)


def versions(catalog: Catalog, kernels: tuple[str, ...], xformers: str | None, pin: str | None = None) -> tuple[str, ...]:
    """Return the adapter's versions beside an xformers (None: none is there), in the order of ``kernels``; ``pin`` narrows the base."""
    bases = (base for base in BASES if pin is None or covers(pin.partition("+")[0], base))
    base = next((base for base in bases if xformers is None or catalog.accepts(xformers, base)), None)
    return tuple(f"{base}+{label}" for label in kernels) if base else ()


def offered(flash_attn: tuple[str, ...]) -> tuple[str, ...]:
    """Return the kernel sets that a list of versions names, each once, in its order."""
    labels = (version.partition("+")[2] for version in flash_attn)
    return tuple(dict.fromkeys(label for label in labels if label in KERNELS))


def serves(torch: str) -> bool:
    """Say whether the adapter is planned for a torch release."""
    return numbers(torch) >= FIRST_TORCH


def describe_kernels(stock: AdapterStock) -> str:
    """Return whose kernels compute, in words."""
    return "the sm_75 kernels of flash-attn 1.0.9, compiled here" if stock.source else "PyTorch's own attention kernels"
