"""The last resort for a compute capability: looking up the marketing name, and saying that it is a guess."""

from __future__ import annotations

from dataclasses import replace

from provisioner.machine.facts import Gpu, Machine
from provisioner.machine.system import System


def facts(system: System, known: Machine) -> Machine:
    """Return the GPUs with guessed compute capabilities where no source stated one; nothing when none is missing."""
    if not any(_is_open(gpu) for gpu in known.gpus):
        return Machine()
    return Machine(gpus=tuple(_guessed(gpu) if _is_open(gpu) else gpu for gpu in known.gpus))


def _is_open(gpu: Gpu) -> bool:
    return gpu.compute_capability is None and gpu.name is not None and gpu.vendor == "nvidia"


def _guessed(gpu: Gpu) -> Gpu:
    """Return the GPU with the compute capability that every reading of its name agrees on.

    A name that nvidia-smi has cut (``GeForce RTX 208...``) is not guessed at: what was cut may name another generation.
    """
    from provisioner.knowledge.gpus import find_gpu

    name = gpu.name or ""
    if name.endswith("..."):
        return gpu
    readings = (name, *name.split(" / ")) if " / " in name else (name,)  # PCI lists: "GeForce RTX 4080 Max-Q / Mobile"
    found = {model.compute_capability for reading in readings if (model := find_gpu(reading))}
    return replace(gpu, compute_capability=found.pop(), source="name-guess") if len(found) == 1 else gpu
