"""Compute capabilities from marketing names, also from names that a table cut short."""

from __future__ import annotations

import re
from dataclasses import replace

from provisioner.machine.facts import Gpu

_CUT_NUMBER = re.compile(r"\b(?:RTX|GTX)\s+\d{1,2}$", re.IGNORECASE)
"""``GeForce RTX 4``: the text ends inside the model's number, which has three digits or four."""


def with_capability(gpu: Gpu) -> Gpu:
    """Return ``gpu`` with the compute capability that its name decides; unchanged where the name leaves it open."""
    if gpu.compute_capability or gpu.name is None or gpu.vendor != "nvidia":
        return gpu
    capability = capability_of(gpu.name)
    return replace(gpu, compute_capability=capability, source="name-guess") if capability else gpu


def capability_of(name: str) -> str | None:
    """Return the compute capability of a device name, None where several or none fit.

    A name cut by a table (``GeForce RTX 208...``) is decided when all models that begin so agree.
    """
    from provisioner.knowledge import gpus

    if _CUT_NUMBER.search(name):
        return None
    if name.endswith(("...", "…")):
        return _agreed(name.rstrip(".… "))
    found = gpus.find_gpu(name)
    return found.compute_capability if found else None


def _agreed(beginning: str) -> str | None:
    from provisioner.knowledge import gpus

    start = _plain(beginning)
    if len(start) < 4:
        return None
    fitting = {model.compute_capability for model in gpus.models() if _plain(model.name).startswith(start)}
    return fitting.pop() if len(fitting) == 1 else None


def _plain(name: str) -> str:
    words = name.lower().replace("-", " ").split()
    return " ".join(word for word in words if word not in ("nvidia", "tesla", "geforce", "quadro"))
