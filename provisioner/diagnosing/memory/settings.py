"""The allocator's settings as a variable states them: which variable counts, and what torch would not understand in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity

NEW, OLD = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"

BOOLEANS = frozenset(
    {
        "expandable_segments",
        "graph_capture_record_stream_reuse",
        "pinned_free_catch_all",
        "pinned_use_background_threads",
        "pinned_use_cuda_host_register",
        "release_lock_on_cudamalloc",
        "throw_on_cudamalloc_oom",
    }
)
NUMBERS = frozenset(
    {
        "garbage_collection_threshold",
        "large_segment_size_mb",
        "max_non_split_rounding_mb",
        "max_split_size_mb",
        "per_process_memory_fraction",
        "pinned_max_cached_size_mb",
        "pinned_max_round_threshold_mb",
        "pinned_num_register_threads",
        "pinned_reserve_segment_size_mb",
    }
)
OTHERS = frozenset({"backend", "roundup_power2_divisions"})
KEYS = BOOLEANS | NUMBERS | OTHERS
"""The keys that torch 2.13.0 and 2.14.1 know (strings of libc10 and libc10_cuda, 2026-11-25); older releases know fewer."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What is set, and by which variable; ``wrong`` are the entries that torch does not know or refuses, with the reason."""

    variable: str
    text: str
    values: dict[str, str]
    wrong: tuple[tuple[str, str], ...] = ()


def settings_of(variables: Mapping[str, str]) -> Settings | None:
    """Return the settings of the variable that a current torch reads first; None where neither is set."""
    for name in (NEW, OLD):
        if text := variables.get(name, "").strip():
            return parse(text, name)
    return None


def parse(text: str, variable: str = NEW) -> Settings:
    """Return what ``key:value,key:[a:b,c:d]`` states; never raises."""
    values: dict[str, str] = {}
    wrong: list[tuple[str, str]] = []
    for entry in (entry.strip() for entry in re.split(r",(?![^\[]*\])", text)):
        if not entry:
            continue
        key, colon, value = (part.strip() for part in entry.partition(":"))
        if reason := _flaw(key, colon, value):
            wrong.append((entry, reason))
        else:
            values[key] = value
    return Settings(variable, text, values, tuple(wrong))


def _flaw(key: str, colon: str, value: str) -> str | None:
    if key not in KEYS:
        return "torch knows no such key"
    if not colon:
        return "key:value is expected"
    if key in BOOLEANS and value not in ("True", "False"):
        return "True or False is expected, so written: torch stops at anything else"
    if key in NUMBERS and not re.fullmatch(r"\d+(\.\d+)?", value):
        return "a number is expected"
    if key == "max_split_size_mb" and float(value) < 20:
        return "at least 20 is expected: torch stops at less"
    if key == "backend" and value not in ("native", "cudaMallocAsync"):
        return "native or cudaMallocAsync is expected"
    return None


def judge(
    variables: Mapping[str, str], *, torch: str | None, wsl: bool, where: str = "", real: Mapping[str, object] | None = None
) -> Iterator[Candidate]:
    """Yield what is wrong with the variables of a process (``where`` says which); ``real`` are its allocator's own settings.

    The new name is ignored for expandable_segments up to torch 2.9 (pytorch#183387); Unsloth draws the line at 2.10 too.
    """
    new, old = variables.get(NEW), variables.get(OLD)
    if new and not old and torch and minor(torch) < (2, 10):
        fix = Fix("use the old name with this torch", f"export {OLD}={new}", Safety.REVERSIBLE)
        title = f"torch {torch} ignores {NEW}{where}"
        yield Candidate("allocator-variable-ignored", 94, Severity.WARNING, title, (f"{NEW}={new}",), fix, "pytorch#183387")
    found = settings_of(variables)
    if found is None:
        return
    if found.wrong:
        title = f"{found.variable} holds what torch does not take{where}: {', '.join(entry for entry, _ in found.wrong)}"
        evidence = tuple(f"{entry}: {reason}" for entry, reason in found.wrong[:4])
        fix = Fix(f"correct the variable; known keys: {', '.join(sorted(KEYS))}", f"unset {found.variable}", Safety.REVERSIBLE)
        yield Candidate("allocator-setting-wrong", 94, Severity.WARNING, title, evidence, fix, "torch 2.14.1, libc10_cuda")
    wanted = found.values.get("expandable_segments") == "True"
    if wanted and wsl:
        fix = Fix("leave it out: Unsloth removes it under WSL by itself", f"unset {NEW} {OLD}", Safety.REVERSIBLE)
        title = f"expandable_segments does harm under WSL2{where}"
        yield Candidate("expandable-segments-on-wsl", 94, Severity.WARNING, title, (found.text,), fix, "unsloth#3511")
    elif wanted and real is not None and real.get("expandable_segments") is False:
        fix = Fix("import unsloth before torch, and set the variable before Python starts")
        title = f"expandable_segments is asked for and not in force{where}"
        evidence = (f"{found.variable}={found.text}", "the allocator itself says expandable_segments: False")
        yield Candidate("allocator-setting-not-in-force", 94, Severity.WARNING, title, evidence, fix)


def minor(version: str) -> tuple[int, int]:
    """Return major and minor number of a version, (0, 0) where it has none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)
