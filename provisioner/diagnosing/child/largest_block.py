"""Finds the largest block that torch can have on each visible GPU, and the largest pinned host block; gives everything back.

Runs in the examined environment's own Python. Nothing is written to the memory, so that it costs milliseconds a try.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

STEP = 16 << 20
"""Sizes are multiples of this many bytes, so the answer is that exact."""

PINNED_LIMIT = 2 << 30
"""Pinned memory is tried up to this: it takes the host's memory from everybody."""


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest multiple of `STEP` up to ``limit`` for which ``fits``: all of it, or found by halving."""
    if fits(limit - limit % STEP):
        return limit - limit % STEP
    low, high = 0, limit // STEP
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle * STEP) else (low, middle)
    return low * STEP


def on_device(torch: Any, index: int) -> dict[str, int]:
    """Return free and total memory of a GPU and the largest block on it, bytes; its context is made first."""
    torch.cuda.set_device(index)
    torch.empty(1, device="cuda")
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(index)

    def fits(size: int) -> bool:
        try:
            torch.empty(size, dtype=torch.uint8, device="cuda")
        except torch.cuda.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return {"index": index, "free": free, "total": total, "largest": largest(fits, free)}


def pinned(torch: Any) -> int:
    """Return the largest pinned host block up to `PINNED_LIMIT`, bytes, by doubling."""
    size, found = 16 << 20, 0
    while size <= PINNED_LIMIT:
        try:
            torch.empty(size, dtype=torch.uint8, pin_memory=True)
        except RuntimeError:
            break
        found, size = size, size * 2
    return found


def main() -> None:
    """Print one line of JSON."""
    import torch

    found: dict[str, Any] = {"devices": [], "pinned": None}
    if torch.cuda.is_available():
        found["devices"] = [on_device(torch, index) for index in range(torch.cuda.device_count())]
        found["pinned"] = pinned(torch)
    sys.stdout.write("FOUND=" + json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
