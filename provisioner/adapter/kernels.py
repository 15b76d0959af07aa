"""The adapter's two kernel sets and what each claims: the record in the wheel, and what verification asks of it, come from here."""

from __future__ import annotations

import re
from dataclasses import dataclass

from provisioner.compat import StrEnum
from provisioner.errors import UsageError
from provisioner.planning.values import DTYPES, HEAD_DIMS, KernelSelection

BASE_VERSION = "2.8.3"
"""The flash-attn whose functions the adapter has."""

RELEASE = "1.0.9"
"""The flash-attn whose kernels are compiled into ``turing109``."""

FEATURES = ("backward", "varlen", "local", "uneven", "dropout", "kvcache")
"""What both sets offer; softcap and ALiBi are refused."""

TURING = KernelSelection("custom", (32, 64, 128), DTYPES, ("backward", "varlen", "uneven", "dropout"))
"""The kernels of 1.0.9 that are compiled: all but the block-sparse ones, which have no code for Turing."""

_BASE = re.compile(r"2\.\d+\.\d+(?:\.post\d+)?")
ARCHS = ("sm_75", "compute_75")


class Kernels(StrEnum):
    """What is inside: PyTorch's kernels alone, or those of 1.0.9 before them."""

    ATEN = "aten"
    TURING109 = "turing109"


@dataclass(frozen=True, slots=True)
class AdapterVersion:
    """The adapter's version, such as ``2.8.3+turing109``: the label names the kernels."""

    base: str
    kernels: Kernels

    def __str__(self) -> str:
        return f"{self.base}+{self.kernels}"

    @classmethod
    def parse(cls, text: str) -> AdapterVersion:
        """Return the version that ``text`` writes. Raise `UsageError` for anything else."""
        base, _, label = text.partition("+")
        if not _BASE.fullmatch(base) or label not in list(Kernels):
            raise UsageError(
                f"{text} is not a version of the adapter",
                why=f"it has flash-attn 2's functions and a label: {', '.join(f'{BASE_VERSION}+{kernels}' for kernels in Kernels)}",
                hints=["`provision build --adapter aten` or `--adapter turing109` picks the label"],
                code="unknown-release",
            )
        return cls(base, Kernels(label))


def claims() -> KernelSelection:
    """Return what an adapter must compute rightly, whichever set computes it.

    Both sets claim the same, because what 1.0.9 lacks (bfloat16, head dims above 128, backward above 64, windows) PyTorch's kernels
    take. On a GPU below compute capability 8.0 bfloat16 is refused, and nothing else is.
    """
    return KernelSelection("custom", HEAD_DIMS, DTYPES, FEATURES)
