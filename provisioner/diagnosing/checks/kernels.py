"""flash-attn's compiled part: whether it is there, and whether it computes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.diagnosing import hangs, messages
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import uninstall
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Attempt, Inventory
from provisioner.machine.report.cleaning import clean


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about flash-attn's kernels."""
    for copy in inventory.packages.get("flash-attn", ())[:1]:
        if not copy.extensions and not copy.adapter:
            command = uninstall(inventory, "flash-attn")
            text = "install a flash-attn that holds kernels; where none fits this torch, remove it: Unsloth goes on without"
            title = f"flash-attn {copy.version} has no compiled kernels: its wheel was not found and nothing was built"
            fix = Fix(text, command, Safety.REVERSIBLE, automatic=True, repair=Repair.FLASH_ATTN)
            yield Candidate("flash-attn-no-kernels", 46, Severity.ERROR, title, (copy.metadata, "no flash_attn_2_cuda*.so"), fix)
    yield from _call(inventory.attention)


WRONG = 0.02
"""Difference from attention in float64 above which a result in float16 is wrong; rounding gives less than 0.002 for these inputs."""


def _call(attempt: Attempt | None) -> Iterator[Candidate]:
    """A real call on the GPU: it computes, computes something else, fails, or never returns."""
    if attempt is None:
        return
    if attempt.outcome == "hang":
        yield hangs.judge("a call of flash-attn on the GPU", attempt.seconds, hangs.evidence_of(attempt))
    elif attempt.outcome == "ok":
        match = re.search(r"FACTS=(\S+)", attempt.output)
        difference = float(match[1]) if match else 0.0
        if not difference <= WRONG:
            title = f"flash-attn computes something else on this GPU: it differs by {difference:.3g}"
            fix = Fix("measure it in full", "provision verify")
            yield Candidate("flash-attn-wrong-result", 45, Severity.ERROR, title, (attempt.output.strip()[-200:],), fix)
    else:
        known = messages.match(clean(attempt.output))
        yield from known
        if not known:
            last = (attempt.output.strip().splitlines() or ["no output"])[-1]
            yield Candidate(
                "flash-attn-call-fails",
                63,
                Severity.ERROR,
                "a call of flash-attn on the GPU fails",
                (last,),
                Fix("verify the environment", "provision verify"),
            )
