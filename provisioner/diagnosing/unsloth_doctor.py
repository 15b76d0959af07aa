"""Unsloth's own doctor, where it is installed: it covers several GPUs, their topology and NCCL, which are then not repeated here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.inventory import Inventory
from provisioner.process import run

SECONDS = 25.0
"""Its NCCL test has a deadline of its own, set below this."""


def ask(inventory: Inventory) -> Iterator[Candidate]:
    """Yield what ``unsloth doctor`` (unsloth 2026.10 and later; exit 1 is a problem) says about several GPUs."""
    program = Path(inventory.python.executable).parent / "unsloth"
    if len(inventory.gpus) < 2 or not program.exists():
        return
    result = run([program, "doctor", "--timeout", "15"], timeout=SECONDS)
    lines = [line.strip() for line in (result.out + result.err).splitlines() if line.strip()]
    if result.timed_out:
        fix = Fix("run it alone and see where it stops", f"{program} doctor")
        yield Candidate(
            "multi-gpu-test-hangs",
            65,
            Severity.ERROR,
            "unsloth doctor's multi-GPU tests did not end",
            tuple(lines[-3:]) or ("no output",),
            fix,
        )
    elif result.code == 1:
        said = [line for line in lines if any(word in line.lower() for word in ("fail", "problem", "error", "mismatch"))] or lines
        fix = Fix("read its full answer", f"{program} doctor")
        yield Candidate(
            "multi-gpu-problem",
            65,
            Severity.WARNING,
            "unsloth doctor reports a problem",
            tuple(said[:4]) or ("exit code 1",),
            fix,
        )
