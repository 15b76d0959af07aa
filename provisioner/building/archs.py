"""Architectures as a build names them: ``sm_90`` (binary code; ``sm_90a`` and ``sm_100f`` too) or ``compute_75`` (PTX)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from provisioner.capability import ComputeCapability
from provisioner.errors import UsageError

_NAME = re.compile(r"(?:sm|compute)_\d{2,3}[af]?")


def ordered(archs: Iterable[str]) -> tuple[str, ...]:
    """Return ``archs`` once each, lowest first, so that equal builds become equal values.

    Raise `UsageError` for none at all, and for what is no architecture (``90``, ``9.0``).
    """
    wanted = tuple(sorted(set(archs), key=lambda arch: (arch.partition("_")[2].rjust(5), arch)))
    if not wanted:
        raise UsageError("a build needs at least one architecture", hints=["--arch sm_90"], code="no-arch")
    for arch in wanted:
        if not _NAME.fullmatch(arch):
            raise UsageError(
                f"{arch!r} is not an architecture",
                why="sm_… is binary code for one GPU generation, compute_… is PTX, which later GPUs compile for themselves",
                hints=[f"--arch {_meant(arch)}"],
                code="unknown-arch",
            )
    return wanted


def _meant(text: str) -> str:
    try:
        return ComputeCapability.parse(text).sm
    except ValueError:
        return "sm_90"


def capability_of(arch: str) -> ComputeCapability:
    """Return the compute capability that ``sm_90a`` or ``compute_75`` is compiled for."""
    return ComputeCapability.parse(arch)
