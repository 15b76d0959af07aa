"""GPU memory: who holds it, and the allocator's settings as they really are."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.inventory import Inventory

HELD_SHARE = 0.10
"""Other processes' share of a GPU's memory from which it is worth saying."""


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about memory and the allocator's variables."""
    yield from _held(inventory)
    yield from _variables(inventory)


def _held(inventory: Inventory) -> Iterator[Candidate]:
    for index, gpu in enumerate(inventory.gpus):
        used, total = _number(gpu.get("memory.used")), _number(gpu.get("memory.total"))
        if used is None or not total or used / total < HELD_SHARE:
            continue
        holders = [f"pid {one['pid']}: {one['used_mib']} MiB ({one['name']})" for one in inventory.processes[:5]]
        title = f"GPU {index} ({gpu.get('name')}): {used} of {total} MiB are in use by others before anything starts"
        fix = Fix("end what is not needed: notebooks kept alive, servers, finished runs", f"nvidia-smi -i {index}")
        yield Candidate(
            "gpu-memory-held",
            93,
            Severity.WARNING,
            title,
            tuple(holders) or ("nvidia-smi shows no holder here: a container or another user's",),
            fix,
        )


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _variables(inventory: Inventory) -> Iterator[Candidate]:
    """Which name counts depends on torch: the new one is ignored for expandable_segments up to 2.9 (pytorch#183387)."""
    new, old = inventory.variables.get("PYTORCH_ALLOC_CONF"), inventory.variables.get("PYTORCH_CUDA_ALLOC_CONF")
    torch = inventory.version("torch")
    if new and not old and torch and _minor(torch) < (2, 10):
        fix = Fix("use the old name with this torch", f"export PYTORCH_CUDA_ALLOC_CONF={new}")
        yield Candidate(
            "allocator-variable-ignored",
            94,
            Severity.WARNING,
            f"torch {torch} ignores PYTORCH_ALLOC_CONF",
            (f"PYTORCH_ALLOC_CONF={new}",),
            fix,
            "pytorch#183387",
        )
    value = new or old or ""
    if "expandable_segments:True" in value and inventory.host.get("wsl") in ("1", "2"):
        fix = Fix("leave it out: Unsloth removes it under WSL by itself", "unset PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF")
        yield Candidate(
            "expandable-segments-on-wsl",
            94,
            Severity.WARNING,
            "expandable_segments does harm under WSL2",
            (value,),
            fix,
            "unsloth#3511",
        )


def _minor(version: str) -> tuple[int, int]:
    parts = version.split("+")[0].split(".")
    return (int(parts[0]), int("".join(letter for letter in parts[1] if letter.isdigit()) or 0)) if len(parts) > 1 else (0, 0)
