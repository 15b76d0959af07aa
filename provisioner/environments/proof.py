"""What a new environment must show before its name points at it."""

from __future__ import annotations

from pathlib import Path

from provisioner import progress
from provisioner.errors import VerificationFailed
from provisioner.planning.values import Plan, Route
from provisioner.verifying.expectation import Expectation
from provisioner.verifying.receipt import Outcome, Receipt

SECONDS = 900.0
"""Limit of the whole proof: imports of a cold torch and Unsloth, then the quick numerics."""


def expectation(plan: Plan, *, gpu: bool) -> Expectation:
    """Return what an environment made by ``plan`` must show on a machine with or without a GPU."""
    imports = ["torch"]
    chosen = plan.flash_attn
    if plan.route in (Route.WHEEL, Route.SOURCE, Route.SHIM):
        imports.append("flash_attn")
    if plan.xformers is not None:
        imports.append("xformers.ops")
    if any(line.startswith("unsloth") for line in plan.requirements):
        imports.append("unsloth")
    if chosen is not None and chosen.kernels is not None:
        kernels = chosen.kernels
        return Expectation(
            "flash-attn", kernels.head_dims, None, kernels.dtypes, kernels.features, chosen.archs, tuple(imports), gpu
        )
    # Whether a foreign wheel covers these GPUs was settled before it went in; what else its label promises is not our claim.
    return Expectation(attention="flash-attn" if chosen is not None else None, imports=tuple(imports), gpu=gpu)


def prove(python: Path, plan: Plan, *, gpu: bool) -> Receipt:
    """Run the quick verification and return its receipt. Raise `VerificationFailed` naming the first failed check."""
    from provisioner.verifying.verify import verify

    with progress.task("proving the environment"):
        receipt = verify(python, expectation=expectation(plan, gpu=gpu), mode="quick", timeout=SECONDS)
    failed = [check for check in receipt.checks if check.outcome is Outcome.FAILED]
    if failed:
        first = failed[0]
        raise VerificationFailed(
            f"{first.name} failed: {first.detail}",
            why=f"{len(failed)} of {len(receipt.checks)} checks failed; nothing was kept",
            hints=["keep it to look at: add --no-verify", "then find the cause: provision doctor NAME"],
            code=first.code or "verification-failed",
        )
    return receipt
