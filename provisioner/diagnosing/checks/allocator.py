"""GPU memory: who holds it, and the allocator's settings as they really are."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.inventory import Inventory
from provisioner.diagnosing.memory import settings

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
        own = [one for one in inventory.processes if one["gpu"] == gpu.get("pci.bus_id", one["gpu"])]
        holders = [
            f"pid {one['pid']} ({one.get('user') or '?'}): {one['used_mib']} MiB, {one.get('command') or one['name']}"
            for one in own[:5]
        ]
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
    """What the variables say, beside what the allocator that was started with them really does."""
    real = (inventory.torch or {}).get("allocator")
    yield from settings.judge(
        inventory.variables,
        torch=inventory.version("torch"),
        wsl=inventory.host.get("wsl") in ("1", "2"),
        real=real if isinstance(real, dict) else None,
    )
