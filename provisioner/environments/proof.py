"""What a new environment must show before its name points at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from provisioner import progress
from provisioner.environments.manifest import write_manifest
from provisioner.environments.store import Environment
from provisioner.errors import VerificationFailed
from provisioner.planning.values import Plan, Route
from provisioner.verifying.expectation import Expectation
from provisioner.verifying.receipt import Outcome, Receipt

SECONDS = 900.0
"""Limit of each of the proof's processes: imports of a cold torch and Unsloth, or the quick numerics of a GPU."""


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


OTHERS = ("metadata of ", "import triton", "import bitsandbytes", "transformers: training steps with sdpa", "every GPU opens")
"""How checks begin that say nothing of flash-attn: where it alone was put in, their failures were there before."""


def prove(
    python: Path,
    plan: Plan,
    *,
    gpu: bool,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    beside: bool = False,
) -> Receipt:
    """Run the quick verification and return its receipt; ``environment`` are the variables that entering the environment sets.

    ``beside`` says that flash-attn alone was put in, beside what somebody else answers for: failures of `OTHERS` are only told then.
    Raise `VerificationFailed` naming the first failed check, and how to look at the environment: by ``name``, where it has one.
    """
    from provisioner.verifying.verify import verify

    with progress.task("proving the environment"):
        receipt = verify(python, expectation=expectation(plan, gpu=gpu), timeout=SECONDS, environment=environment)
    failed = [check for check in receipt.checks if check.outcome is Outcome.FAILED]
    if beside:
        for check in (check for check in failed if check.name.startswith(OTHERS)):
            progress.note(f"not flash-attn's, and as it was: {check.name} fails: {check.told}")
        failed = [check for check in failed if not check.name.startswith(OTHERS)]
    if failed:
        first = failed[0]
        raise VerificationFailed(
            f"{first.name} failed: {first.told}",
            why=f"{len(failed)} of {len(receipt.checks)} checks failed; nothing was kept",
            hints=[
                "keep it to look at: add --no-verify",
                f"then find the cause: provision doctor {name or f'--python {python}'}",
            ],
            code=first.code or "verification-failed",
        )
    return receipt


def keep(environment: Environment, receipt: Receipt) -> None:
    """Write ``receipt`` into the environment's manifest, unless it only imported what an earlier one computed, or the folder is another's."""
    known = environment.manifest.receipt
    if known is not None and known.computed and receipt.passed and not receipt.computed:
        return
    try:
        write_manifest(environment.prefix, replace(environment.manifest, receipt=receipt))
    except OSError as error:
        progress.note(f"the receipt is not kept in {environment.prefix}: {error.strerror or error}")
