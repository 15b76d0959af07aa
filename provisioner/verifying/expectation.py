"""What a build claims to have, and so what must be right and what must be refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from provisioner.capability import ComputeCapability
from provisioner.planning.values import DTYPES, FEATURES, HEAD_DIMS, KernelSelection

GENERATION_1 = KernelSelection("full", (32, 64, 128), DTYPES, ("backward", "varlen", "uneven", "dropout"))
"""What flash-attn 1.0.9 has: no window, softcap, ALiBi or grouped heads (fmha_api.cpp, read 2026-11-24)."""

GENERATION_2 = KernelSelection("full", HEAD_DIMS, DTYPES, FEATURES)

ARRIVED = {"local": (2, 3), "alibi": (2, 4), "softcap": (2, 6)}
"""The release that brought a feature (flash-attention README, "Changelog", read 2026-11-24)."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the environment must show. None means: whatever the wheel's provenance says, else all that its release has.

    ``attention`` is the path that must run: ``flash-attn`` (an adapter with its API included), ``sdpa`` or ``xformers``; None takes
    flash-attn where it is installed. ``backward_head_dims`` default to ``head_dims``. ``archs`` are claimed architectures (``sm_90``,
    ``compute_75``). ``imports`` are modules that must be there; what is there beyond them must import too. ``gpu`` True makes a missing
    GPU a failure. Worked out: ``foreign``, PTX for older devices runs on a newer one; ``adapter``, the kernels under an adapter's functions;
    ``forward_with_dropout``, head dims that have no backward with dropout on the device.
    """

    attention: str | None = None
    head_dims: tuple[int, ...] | None = None
    backward_head_dims: tuple[int, ...] | None = None
    dtypes: tuple[str, ...] | None = None
    features: tuple[str, ...] | None = None
    archs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ("torch",)
    gpu: bool = False
    foreign: bool = False
    adapter: str | None = None
    forward_with_dropout: tuple[int, ...] = ()


def settle(expectation: Expectation, *, versions: dict[str, str], provenance: dict[str, Any] | None) -> Expectation:
    """Return ``expectation`` with every None filled in: from ``provenance`` (our wheel's own record), else from the release.

    ``provenance`` holds ``selection`` (``head_dims``, ``dtypes``, ``features``, and ``backward_head_dims`` where they are fewer),
    ``inputs.archs``, and ``adapter`` where the package is no flash-attn but has its functions over other kernels.
    """
    version = versions.get("flash-attn")
    known = _of_release(version)
    said = (provenance or {}).get("selection") or {}
    head_dims = expectation.head_dims or tuple(said.get("head_dims") or known.head_dims)
    return replace(
        expectation,
        attention=expectation.attention or _installed(versions),
        head_dims=head_dims,
        backward_head_dims=expectation.backward_head_dims or tuple(said.get("backward_head_dims") or head_dims),
        dtypes=expectation.dtypes or tuple(said.get("dtypes") or known.dtypes),
        features=expectation.features if expectation.features is not None else tuple(said.get("features", known.features)),
        archs=expectation.archs or tuple(((provenance or {}).get("inputs") or {}).get("archs") or ()),
        adapter=(provenance or {}).get("adapter"),
    )


def read_provenance(text: str | None) -> dict[str, Any] | None:
    """Return the record that our builds leave in a wheel's dist-info, None where there is none or it cannot be read."""
    try:
        record = json.loads(text or "null")
    except ValueError:
        return None
    whole = isinstance(record, dict) and all(isinstance(record.get(part) or {}, dict) for part in ("selection", "inputs"))
    return record if whole else None


def on_device(expectation: Expectation, capability: ComputeCapability, version: str) -> Expectation:
    """Return ``expectation`` as far as the device and the kernels' own generation allow it.

    flash-attn 1.x goes backward above head dim 64 on 8.0 and 9.0 alone, for want of shared memory elsewhere, and takes bf16 from 8.0 on
    (fmha_api.cpp of 1.0.9, read 2026-11-24). Upstream asks the *device*, so kernels for 7.5 that run on a newer one as PTX refuse
    neither: they are ``foreign`` there. An adapter gives what its kernels lack to PyTorch's own, which know no bf16 below 8.0.

    flash-attn 2's backward of head dim 256 wants 144 KB of shared memory a block (flash_bwd_launch_template.h of 2.8.3.post2, read 2026-11-27).
    Where there is less (8.6, 8.9, 12.x), releases before 2.5.5 refuse it, 2.5.5 to 2.6.3 refuse it with dropout, and later ones launch nothing
    with dropout: the gradients are what lay in memory.
    """
    halves = tuple(name for name in expectation.dtypes or () if name != "bf16" or capability >= (8, 0))
    if expectation.adapter:
        return replace(expectation, dtypes=halves)
    foreign = capability >= (8, 0) and bool(expectation.archs) and all(_number(arch) < (8, 0) for arch in expectation.archs)
    old = foreign or capability < (8, 0)
    large = not old and (capability in ((8, 0), (9, 0)) or not version.startswith("1."))
    dtypes = tuple(name for name in halves if name != "bf16" or not old)
    dims = tuple(dim for dim in expectation.backward_head_dims or () if large or dim <= 64)
    small_memory = capability in ((8, 6), (8, 9)) or capability.major == 12
    forward = tuple(dim for dim in dims if dim > 192) if small_memory and not version.startswith("1.") else ()
    if _release(version) < (2, 5, 5):
        dims, forward = tuple(dim for dim in dims if dim not in forward), ()
    return replace(expectation, backward_head_dims=dims, dtypes=dtypes, foreign=foreign, forward_with_dropout=forward)


SILENT_DROPOUT = (2, 7)
"""The first release that launches no backward kernel, and says nothing, where `on_device` finds none with dropout (flash_api.cpp, 2.6.3 and 2.7.0)."""


def silently_wrong(expectation: Expectation, version: str) -> str | None:
    """Return the warning that belongs to a device where a release computes nothing and says nothing; None where there is none."""
    dims = expectation.forward_with_dropout
    if not dims or "dropout" not in (expectation.features or ()) or _release(version) < SILENT_DROPOUT:
        return None
    named = ", ".join(map(str, dims))
    return (
        f"flash-attn {version} has no backward of head dim {named} with dropout for this GPU and does not say so: its gradients are then "
        "whatever lay in memory; train such models with an attention dropout of 0"
    )


def _number(arch: str) -> ComputeCapability:
    return ComputeCapability.parse(arch)


def _installed(versions: dict[str, str]) -> str:
    there = {"flash-attn", "flash-attn-3", "flash-attn-4"} & versions.keys()
    return "flash-attn" if there else "sdpa"


def _release(version: str | None) -> tuple[int, ...]:
    """Return the numbers of a release; of none, or one that cannot be read, those above all."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version or "").release
    except InvalidVersion:
        return (2, 99)


def _of_release(version: str | None) -> KernelSelection:
    release = _release(version)
    if release[0] == 1:
        return GENERATION_1
    missing = {feature for feature, since in ARRIVED.items() if release < since}
    return replace(GENERATION_2, features=tuple(feature for feature in FEATURES if feature not in missing))
