"""Where a build departs from upstream's setup.py: small, declared, each with its reason; part of the build key and provenance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.building import generated
from provisioner.building.releases import Release
from provisioner.building.selection import Selection
from provisioner.building.target import Torch
from provisioner.building.toolchain import CXX20_TORCH


@dataclass(frozen=True, slots=True)
class Patch:
    """One departure: what it sets to which value, and why. No file of the sdist is edited."""

    name: str
    value: str
    reason: str


def declared(release: Release, selection: Selection, torch: Torch, archs: Sequence[str]) -> tuple[Patch, ...]:
    """Return the patches of one build."""
    found = [
        Patch("arch-list", " ".join(archs), "setup.py compiles four architectures; only the planned ones are needed"),
    ]
    if torch.release >= CXX20_TORCH:
        reason = "torch ≥ 2.14 headers refuse C++17, which setup.py pins (tried with 2.14.1, 2026-11-24)"
        found.append(Patch("cxx-standard", "20", reason))
    if selection.stubbed:
        left_out = f"{len(selection.stubbed)} kernels as stubs"
        found.append(
            Patch(
                "source-list",
                left_out,
                "setup.py names every unit; HEADDIM_SWITCH calls every kernel, so each needs a definition",
            )
        )
    if selection.forwarded:
        reason = "training never splits keys and values; plain forward kernels answer what both compute, the rest is refused"
        found.append(Patch("kvcache", "left out", reason))
    if any(generated.unused_shapes(kernel, release, selection, archs) for kernel in selection.compiled):
        reason = "upstream compiles a kernel in one block shape for each kind of GPU; only those of the planned archs are needed"
        found.append(Patch("block-shapes", " ".join(archs), reason))
    if selection.defines:
        reason = "upstream's own macros, commented out in setup.py; device and host code must agree"
        found.append(Patch("features", " ".join(selection.defines), reason))
    return tuple(found)
