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
_TOTAL = re.compile(r"(?:total capac(?:ity|ty) of |GPU \d+; )" + _SIZE.format("total"))
_FREE = re.compile(r"(?:of which |; )" + _SIZE.format("free") + r"\s+(?:is )?free")
_ALLOCATED = re.compile(
    r"(?:Of the allocated memory |; )" + _SIZE.format("allocated") + r"\s+(?:is allocated by PyTorch|already allocated)"
)
_UNUSED = re.compile(_SIZE.format("unused") + r"\s+is\s+reserved\s+by\s+PyTorch\s+but\s+unallocated")
_MIB = {"bytes": 1 / 2**20, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}

CONTEXT_MIB = 700
"""What a CUDA context and libraries may take outside torch's counters: 256 to 600 MiB were reported (pytorch#107667, InvokeAI#9413); a judgement."""


LIMIT_FREE_MIB = 512
"""Free memory from which a refusal is not the card's: below it rounding and other processes explain it."""


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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the code memory ran out, by the frames that show it: what was being made, and what makes that smaller."""

    frames: str
    what: str
    remedy: str


_PLACES = (
    _Place(r"cross_entropy|log_softmax|logits\.float\(\)|lm_head|nested_concat|compute_metrics", "logits and cross-entropy", "no full logits: UNSLOTH_RETURN_LOGITS unset, no compute_metrics, shorter max_seq_length"),
    _Place(r"optimizer\.step|_init_group|_multi_tensor_adam|/optim/adam\w*\.py|bitsandbytes/optim/", "optimizer states", 'optim="adamw_8bit"; UNSLOTH_OFFLOAD_OPTIMIZER_STATE=1'),
    _Place(r"eager_attention_forward|attn_weights\s*=|scaled_dot_product_attention_math", "attention scores (eager attention)", "a fused attention: flash-attn, xformers or SDPA"),
    _Place(r"prepare_model_for_kbit_training|\.to\(torch\.float32\)", "a float32 copy of 16-bit weights", "leave prepare_model_for_kbit_training out: Unsloth does not need it"),
    _Place(r"allocate_kv_cache|_initialize_kv_caches|cache_engine\.py|gpu_memory_utilization", "vLLM's KV cache", "a lower gpu_memory_utilization, or UNSLOTH_VLLM_STANDBY=1"),
    _Place(r"caching_allocator_warmup|_load_state_dict_into_meta_model|set_module_tensor_to_device|in from_pretrained|safe_open", "the weights while loading", "a *-bnb-4bit repository: it needs no 16-bit tensor on the way"),
)  # fmt: skip
"""Names of functions and files in transformers 5.24, torch 2.13, bitsandbytes 0.50 and vLLM, as of 2026-11-24; the innermost one counts."""

PLACE_TEXT = 6000
"""Characters of a traceback before the message that are looked at."""


def place_of(text: str) -> tuple[_Place, str] | None:
    """Return where memory ran out and the line that shows it, by the traceback before the first message."""
    before = text[max(0, text.find("Tried to allocate") - PLACE_TEXT) : max(0, text.find("Tried to allocate"))]
    for line in reversed(before.splitlines()):
        for place in _PLACES:
            if re.search(place.frames, line):
                return place, line.strip()[:200]
    return None


def causes(report: CleanText) -> Iterator[Candidate]:
    """Yield what the message's numbers mean, with what was being made where the traceback shows it."""
    if "Tried to allocate" not in report.text or (found := read_message(report.text)) is None:
        return
    cause = _cause(found)
    if cause is None:
        return
    code, title, text, command = cause
    evidence: tuple[str, ...] = (_quote(found),)
    if (seen := place_of(report.text)) is not None:
        place, line = seen
        title, text, evidence = f"{title}; it ran out at {place.what}", f"{place.remedy}; else {text}", (*evidence, line)
    yield Candidate(code, 55, Severity.ERROR, title, evidence, Fix(text, command))


def _cause(found: OutOfMemory) -> tuple[str, str, str, str | None] | None:
    """Return code, title, remedy and command of what the numbers mean, the most telling first."""
    total, unused, allocated = found.total or 0.0, found.unused or 0.0, found.allocated or 0.0
    held = _held_by_others(found) or 0.0
    if found.free is not None and found.free >= max(2 * found.tried, LIMIT_FREE_MIB):
        text = (
            "look for a limit: Windows' page file or shared memory, a container's or pinned memory's, per_process_memory_fraction"
        )
        return (
            "memory-limited-elsewhere",
            f"{found.free:.0f} MiB are free and {found.tried:.0f} were refused: a limit other than the card's",
            text,
            None,
        )
    if unused >= found.tried and unused > 0.1 * (total or unused):
        text = "expandable segments (Unsloth sets them on Linux by itself: import unsloth before torch), a fixed padding length, or packing"
        return (
            "memory-fragmented",
            f"fragmentation: {unused:.0f} MiB are reserved but unused, enough for the {found.tried:.0f} MiB asked for",
            text,
            None,
        )
    if total and held > 0.1 * total:
        text = "see who: notebooks kept alive, servers, finished runs"
        return "memory-held-by-others", f"about {held:.0f} MiB of the GPU belong to other processes", text, "nvidia-smi"
    if allocated and found.tried > 0.25 * allocated:
        text = "shorter max_seq_length, batch size 1 with gradient accumulation, no full logits (UNSLOTH_RETURN_LOGITS unset, no compute_metrics)"
        return "one-huge-tensor", f"one tensor of {found.tried:.0f} MiB, as full logits are", text, None
    if total and allocated and (allocated > 0.7 * total or allocated + unused + CONTEXT_MIB > 0.9 * total):
        text = 'batch size 1, then max_seq_length, use_gradient_checkpointing="unsloth", 4-bit weights, in this order'
        return "memory-really-used", f"{allocated:.0f} of {total:.0f} MiB are really in use", text, None
    return None


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
