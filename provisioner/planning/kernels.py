"""Which kernels a source build contains, and what they cost to compile."""

from __future__ import annotations

from functools import lru_cache

from provisioner.building.costs import HOST, LINK, STUBS, limited_to, unit_cost
from provisioner.errors import UsageError
from provisioner.planning.values import DTYPES, FEATURES, HEAD_DIMS, KernelSelection

UNSLOTH = KernelSelection(
    preset="unsloth",
    head_dims=(64, 96, 128, 256),
    dtypes=DTYPES,
    features=("backward", "varlen", "local", "softcap", "uneven"),
)
"""What models that Unsloth trains ask for: head dims 64 (Llama 3.2 1B, Qwen2.5 0.5B), 96 (Phi-3), 128 (most), 256 (Gemma), windows
(Mistral, Gemma) and soft caps (Gemma 2); no attention dropout, no ALiBi, and no key/value cache kernels, which training never calls.
From the models' config.json, 2026-11-24."""

FULL = KernelSelection(preset="full")
PRESETS = {"unsloth": UNSLOTH, "full": FULL}

UNIT_MEMORY_MIB = 6150
"""Peak memory of the largest compiler process (a backward unit, measured 2026-11-24)."""

TURING_SECONDS = 620
"""CPU-seconds of the adapter's Turing kernels: four forward units at 47 s, four backward at 98 s and the binding (flash-attn 1.0.9 for
sm_75, nvcc 13.0.88, measured 2026-11-24)."""

TURING_MEMORY_MIB = 2150
"""Most memory in use while they are compiled, the binding included, which takes more than the kernels' 840 (2026-11-25)."""


def kernel_selection(
    preset: str | None, head_dims: tuple[int, ...], dtypes: tuple[str, ...], features: tuple[str, ...]
) -> KernelSelection | None:
    """Return the selection that the options ask for, None when they ask for none; what they leave open is as for ``unsloth``.

    Raise `UsageError` for an unknown value.
    """
    if preset is None and not (head_dims or dtypes or features):
        return None
    base = PRESETS[preset or "unsloth"]
    for given, known, what in ((head_dims, HEAD_DIMS, "head dim"), (dtypes, DTYPES, "dtype"), (features, FEATURES, "feature")):
        for value in given:
            if value not in known:
                choices = ", ".join(str(choice) for choice in known)
                raise UsageError(f"flash-attn has no kernels for {what} {value}", hints=[f"choose from: {choices}"])
    custom = bool(head_dims or dtypes or features)
    return KernelSelection(
        preset="custom" if custom else base.preset,
        head_dims=tuple(sorted(set(head_dims))) or base.head_dims,
        dtypes=tuple(dtype for dtype in DTYPES if dtype in dtypes) or base.dtypes,
        features=tuple(feature for feature in FEATURES if feature in features) or base.features,
    )


def lacking(held: KernelSelection, wanted: KernelSelection) -> tuple[str, ...]:
    """Return what a build lacks of a selection, in words; empty when it holds all of it."""
    dims = (f"head dim {dim}" for dim in wanted.head_dims if dim not in held.head_dims)
    dtypes = (dtype for dtype in wanted.dtypes if dtype not in held.dtypes)
    features = (feature for feature in wanted.features if feature not in held.features)
    return (*dims, *dtypes, *features)


def _passes(kernels: KernelSelection) -> list[str]:
    needed = {"fwd": None, "bwd": "backward", "split": "kvcache"}
    return [name for name, feature in needed.items() if feature is None or feature in kernels.features]


@lru_cache(maxsize=1024)
def build_seconds(kernels: KernelSelection, archs: tuple[str, ...], release: str | None) -> int:
    """Return the CPU-seconds to compile a selection of ``release`` for ``archs`` (each is a further device pass)."""
    passes, limited = max(len(archs), 1), limited_to(archs, release)
    costs = [
        unit_cost(name, dim, causal, kernels.features, passes, limited)
        for name in _passes(kernels)
        for dim in kernels.head_dims
        for causal in (False, True)
    ]
    return round(sum(cost.seconds for cost in costs) * len(kernels.dtypes) + HOST.seconds + STUBS.seconds + LINK.seconds)
