"""Compute capability: the number that decides which kernels a GPU can run."""

from __future__ import annotations

import re
from typing import NamedTuple

_TEXT = re.compile(r"(\d{1,2})\.(\d)")
_ARCH = re.compile(r"(?:sm_?|compute_?)?(\d{2,3})[a-f]?", re.IGNORECASE)


class ComputeCapability(NamedTuple):
    """A compute capability such as 9.0; ``str()`` gives ``"9.0"`` and ``.sm`` gives ``"sm_90"``."""

    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> ComputeCapability:
        """Read ``"9.0"``, ``"sm_90"``, ``"sm90"``, ``"compute_90"`` or ``"90"``; raise ValueError otherwise."""
        text = text.strip()
        if match := _TEXT.fullmatch(text):
            return cls(int(match[1]), int(match[2]))
        if match := _ARCH.fullmatch(text):
            return cls(int(match[1][:-1]), int(match[1][-1]))
        raise ValueError(f"not a compute capability: {text!r} (write 9.0 or sm_90)")

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @property
    def sm(self) -> str:
        """The name of its binary kernels, e.g. ``sm_90``."""
        return f"sm_{self.major}{self.minor}"

    def runs_binary_of(self, built: ComputeCapability) -> bool:
        """Say whether a cubin for ``built`` runs here: same major, minor not above ours; integrated GPUs take only their own.

        Source: CUDA C++ Programming Guide, "Binary Compatibility" (read 2026-11-24): none between Tegra and other GPUs
        (bitsandbytes#1929: sm_80 code does not run on Orin, 8.7).
        """
        if self != built and (self in INTEGRATED or built in INTEGRATED):
            return False
        return self.major == built.major and built.minor <= self.minor


INTEGRATED = frozenset({ComputeCapability(5, 3), ComputeCapability(6, 2), ComputeCapability(7, 2), ComputeCapability(8, 7)})
"""The GPUs of Tegra chips before Thor: TX1, TX2, Xavier, Orin."""
