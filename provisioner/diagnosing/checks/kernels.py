"""flash-attn's compiled part: whether it is there, and whether it computes."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.diagnosing import catalogue
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import uninstall
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Inventory
from provisioner.machine.report.cleaning import clean


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about flash-attn's kernels."""
    for copy in inventory.packages.get("flash-attn", ())[:1]:
        if not copy.extensions:
            command = uninstall(inventory, "flash-attn")
            text = "install a flash-attn that holds kernels; where none fits this torch, remove it: Unsloth goes on without"
            title = f"flash-attn {copy.version} has no compiled kernels: its wheel was not found and nothing was built"
            fix = Fix(text, command, Safety.REVERSIBLE, automatic=True, repair=Repair.FLASH_ATTN)
            yield Candidate("flash-attn-no-kernels", 46, Severity.ERROR, title, (copy.metadata, "no flash_attn_2_cuda*.so"), fix)
    attempt = inventory.attention
    if attempt is not None and attempt.outcome == "error":
        known = catalogue.match(clean(attempt.output))
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
