"""What torch's out-of-memory message says: four numbers decide which of the usual causes it is.

Both wordings as quoted in issue threads (pytorch#35901 and later ones); torch's source was not read for them. The thresholds are judgement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.machine.report.cleaning import CleanText

_SIZE = r"(?P<{0}>\d+(?:\.\d+)?) (?P<{0}_unit>bytes|KiB|MiB|GiB)"
_TRIED = re.compile(r"Tried to allocate " + _SIZE.format("tried"))
_TOTAL = re.compile(r"(?:total capacity of |GPU \d+; )" + _SIZE.format("total"))
_FREE = re.compile(r"(?:of which |; )" + _SIZE.format("free") + r"\s+(?:is )?free")
_ALLOCATED = re.compile(
    r"(?:Of the allocated memory |; )" + _SIZE.format("allocated") + r"\s+(?:is allocated by PyTorch|already allocated)"
)
_UNUSED = re.compile(_SIZE.format("unused") + r"\s+is\s+reserved\s+by\s+PyTorch\s+but\s+unallocated")
_MIB = {"bytes": 1 / 2**20, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}

CONTEXT_MIB = 700
"""What a CUDA context and libraries may take outside torch's counters: 256 to 600 MiB were reported (pytorch#107667, InvokeAI#9413); a judgement."""


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """The message's numbers, MiB; None where it does not state one."""

    tried: float
    total: float | None = None
    free: float | None = None
    allocated: float | None = None
    unused: float | None = None


def read_message(text: str) -> OutOfMemory | None:
    """Return the numbers of the first out-of-memory message in ``text``."""
    start = text.find("Tried to allocate")
    if start < 0:
        return None
    part = text[start : start + 900]
    tried = _number(_TRIED, part, "tried")
    if tried is None:
        return None
    return OutOfMemory(
        tried,
        _number(_TOTAL, part, "total"),
        _number(_FREE, part, "free"),
        _number(_ALLOCATED, part, "allocated"),
        _number(_UNUSED, part, "unused"),
    )


def _number(pattern: re.Pattern[str], text: str, name: str) -> float | None:
    match = pattern.search(text)
    return float(match[name]) * _MIB[match[f"{name}_unit"]] if match else None


def causes(report: CleanText) -> Iterator[Candidate]:
    """Yield what the message's numbers mean, most telling first."""
    if "Tried to allocate" not in report.text or (found := read_message(report.text)) is None:
        return
    evidence = (_quote(found),)
    if found.unused and found.unused >= found.tried and found.unused > 0.1 * (found.total or found.unused):
        text = "expandable segments (Unsloth sets them on Linux by itself: import unsloth before torch), a fixed padding length, or packing"
        title = f"fragmentation: {found.unused:.0f} MiB are reserved but unused, enough for the {found.tried:.0f} MiB asked for"
        yield Candidate("memory-fragmented", 55, Severity.ERROR, title, evidence, Fix(text))
    elif (held := _held_by_others(found)) and held > 0.1 * (found.total or held):
        title = f"about {held:.0f} MiB of the GPU belong to other processes"
        yield Candidate(
            "memory-held-by-others",
            55,
            Severity.ERROR,
            title,
            evidence,
            Fix("see who: notebooks kept alive, servers, finished runs", "nvidia-smi"),
        )
    elif found.allocated and found.tried > 0.25 * found.allocated:
        text = "shorter max_seq_length, batch size 1 with gradient accumulation, no full logits (UNSLOTH_RETURN_LOGITS unset, no compute_metrics)"
        yield Candidate(
            "one-huge-tensor", 55, Severity.ERROR, f"one tensor of {found.tried:.0f} MiB, as full logits are", evidence, Fix(text)
        )
    elif found.allocated and found.total and found.allocated > 0.7 * found.total:
        text = 'batch size 1, then max_seq_length, use_gradient_checkpointing="unsloth", 4-bit weights, in this order'
        yield Candidate(
            "memory-really-used",
            55,
            Severity.ERROR,
            f"{found.allocated:.0f} of {found.total:.0f} MiB are really in use",
            evidence,
            Fix(text),
        )


def _held_by_others(found: OutOfMemory) -> float | None:
    if found.total is None or found.free is None or found.allocated is None:
        return None
    return max(0.0, found.total - found.free - found.allocated - (found.unused or 0) - CONTEXT_MIB)


def _quote(found: OutOfMemory) -> str:
    named = (
        ("tried", found.tried),
        ("total", found.total),
        ("free", found.free),
        ("allocated", found.allocated),
        ("reserved but unused", found.unused),
    )
    return ", ".join(f"{name} {value:.0f} MiB" for name, value in named if value is not None)
