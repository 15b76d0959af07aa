"""The largest block that can be allocated, tried for real in a child of the examined environment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from provisioner.codec import from_builtins
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.errors import UsageError
from provisioner.process import run

SECONDS = 40.0
GIB = 2**30
SHARE = 0.9
"""A largest block below this share of the free memory is worth saying: the driver gives contiguous addresses whatever the pages."""


@dataclass(frozen=True, slots=True)
class LargestBlock:
    """One GPU as torch numbers it, bytes; ``free`` is what the driver offers once the child has its context."""

    index: int
    free: int
    total: int
    largest: int


@dataclass(frozen=True, slots=True)
class Probed:
    """What could be allocated; ``pinned`` is host memory up to 2 GiB, None without a GPU."""

    devices: tuple[LargestBlock, ...] = ()
    pinned: int | None = None


def probe(python: Path) -> Probed:
    """Try it with ``python``'s torch. Raise `UsageError` where that torch cannot."""
    with as_file(files("provisioner.diagnosing").joinpath("child/largest_block.py")) as path:
        result = run([python, "-s", path], timeout=SECONDS, cwd=Path(tempfile.gettempdir()))
    with suppress(ValueError, IndexError, UsageError):
        return from_builtins(json.loads(result.out.split("FOUND=", 1)[1]), Probed, what="probe")
    last = (result.err.strip() or "it printed nothing").splitlines()[-1]
    raise UsageError(
        f"the torch of {python} could not allocate anything",
        why=f"no answer in {SECONDS:.0f} s" if result.timed_out else last,
        hints=["`provision doctor` without --probe says what is wrong with that torch"],
        code="probe-failed",
    )


def judge(probed: Probed) -> Iterator[Candidate]:
    """Yield what limits a process below what the driver calls free."""
    for device in probed.devices:
        if device.largest < SHARE * device.free and device.free - device.largest > GIB // 2:
            title = f"GPU {device.index}: the largest block is {device.largest / GIB:.1f} GiB, although {device.free / GIB:.1f} GiB are free"
            fix = Fix(
                "look for a limit: per_process_memory_fraction, a MIG slice, a virtual GPU, or another process that grew meanwhile"
            )
            evidence = (f"free {device.free / GIB:.2f}, total {device.total / GIB:.2f} GiB",)
            yield Candidate("largest-block-limited", 57, Severity.WARNING, title, evidence, fix)
    if probed.devices and probed.pinned is not None and probed.pinned < GIB:
        title = f"pinned host memory ends at {probed.pinned / 2**20:.0f} MiB: an empty GPU then reports out of memory"
        fix = Fix(
            "under WSL2 give Unsloth pageable buffers; in a container raise its memory limit",
            "export UNSLOTH_DISABLE_PINNED_MEMORY=1",
            Safety.REVERSIBLE,
        )
        source = "unsloth_zoo gradient_checkpointing.py; unsloth#338, #1744"
        yield Candidate(
            "pinned-memory-limited", 57, Severity.WARNING, title, (f"largest pinned block {probed.pinned} bytes",), fix, source
        )
