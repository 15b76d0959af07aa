"""Which of the accepted candidates is taken: a fixed order, so that the same machine gets the same plan.

The order does not depend on the machine except through forward compatibility: a better driver or C library admits more
candidates and never demotes one.
"""

from __future__ import annotations

from provisioner.planning.requirements import xformers_loads
from provisioner.planning.stock import Draft
from provisioner.planning.values import Route, Trust

RUNS_ON_XFORMERS = (Route.SHIM, Route.NONE)
"""Routes beside which Unsloth runs on xformers (unsloth 2026.10.9 models/_utils.py, read 2026-11-24)."""

TRUST = {trust: place for place, trust in enumerate(Trust)}


def rank_key(draft: Draft, *, forward: bool, older: bool) -> tuple[object, ...]:
    """Return the sort key of an accepted draft, the best first.

    What runs natively goes before what needs the forward-compatibility package (``forward``), which the user must bring: without it the
    environment would fail its proof. Then any flash-attn goes before none, a CUDA that knows the GPU before one that is older (``older``),
    a wheel before a build, a wheel with a known hash before one without, an adapter with kernels of its own before one without, and where Unsloth runs on
    xformers one that loads before one that does not; then the recipe's order of stacks, Pythons and versions; then who made the wheel, and
    the name.
    """
    wheel = draft.wheel
    return (
        forward,
        draft.route is Route.NONE,
        older,
        draft.route is Route.SOURCE,
        wheel is not None and wheel.sha256 is None,
        draft.adapter is not None and draft.adapter.source is None,
        draft.route in RUNS_ON_XFORMERS and not xformers_loads(draft),
        draft.order,
        TRUST[wheel.trust] if wheel is not None else 0,
        draft.id,
    )
