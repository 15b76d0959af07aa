"""Attention as its formula says, in any precision, and the measure of how far a result is from it.

Tensors are ``(tokens, heads, head dim)`` with the sequences of a batch one after the other, so that one function serves fixed and
varying lengths. Masks follow flash-attn: with ``align_right`` (2.1 and later) the last query sees the last key; before, the first sees the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

MATH_FACTOR = 2.0
"""A result may be at most this many times as far from float64 as plain attention in the same precision."""


@dataclass(frozen=True)
class Rule:
    """What is computed: ``window`` counts keys to the left and right, -1 for no bound; ``slopes`` holds one ALiBi slope per head.

    ``scale`` is the softmax scale, None for the usual one, the inverse square root of the head dim.
    """

    causal: bool = False
    window: tuple[int, int] = (-1, -1)
    softcap: float = 0.0
    slopes: Any = None
    align_right: bool = True
    scale: float | None = None


def attention(q: Any, k: Any, v: Any, rule: Rule, *, keep: Any = None, keep_probability: float = 1.0) -> Any:
    """Return the attention of one sequence in the precision of ``q``: ``(queries, heads, head dim)``.

    ``keep`` is a mask over ``(heads, queries, keys)`` of the weights that dropout left. A query that sees no key gets zeros.
    """
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scale = q.shape[-1] ** -0.5 if rule.scale is None else rule.scale
    scores = torch.einsum("qhd,khd->hqk", q * scale, k)
    if rule.softcap:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    offset = positions(q.shape[0], k.shape[0], rule, q.device)
    if rule.slopes is not None:
        scores = scores - (rule.slopes.double()[:, None, None] * offset.abs()).to(scores.dtype)
    seen = visible(offset, rule)
    some = seen.any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~seen & some, float("-inf")), -1) * some
    if keep is not None:
        weights = weights * keep / keep_probability
    return torch.einsum("hqk,khd->qhd", weights, v)


def positions(queries: int, keys: int, rule: Rule, device: Any) -> Any:
    """Return how far each key lies right of each query's own position: ``(queries, keys)``."""
    shift = keys - queries if rule.align_right else 0
    own = torch.arange(queries, device=device)[:, None] + shift
    return torch.arange(keys, device=device)[None, :] - own


def visible(offset: Any, rule: Rule) -> Any:
    """Return which keys each query sees, from `positions`."""
    left, right = rule.window
    if rule.causal:
        right = 0 if right < 0 else min(right, 0)
    seen = torch.ones_like(offset, dtype=torch.bool)
    if right >= 0:
        seen = seen & (offset <= right)
    if left >= 0:
        seen = seen & (offset >= -left)
    return seen


def floor(dtype: Any) -> float:
    """Return the error that is never blamed: half a unit in the last place of the largest value.

    Storing even the exact result in ``dtype`` costs that much; without it a case that plain attention happens to hit exactly
    (one key, say) would leave no room at all.
    """
    return float(torch.finfo(dtype).eps) / 2


def distance(result: Any, exact: Any) -> float:
    """Return the largest error of ``result`` relative to the largest exact value; infinite where it is not finite."""
    if not bool(torch.isfinite(result).all()):
        return float("inf")
    scale = float(exact.abs().max()) if exact.numel() else 0.0
    worst = float((result.double() - exact).abs().max()) if exact.numel() else 0.0
    return worst / scale if scale > 0 else worst


def compare(results: dict[str, Any], exact: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """Return ``error``, ``limit`` and ``detail`` of the tensor that uses most of its limit; ``error`` is None where not finite."""
    worst: dict[str, Any] = {"error": 0.0, "limit": 1.0, "detail": ""}
    for name, result in results.items():
        if result.shape != exact[name].shape:
            return {"error": None, "limit": None, "detail": f"{name} has shape {tuple(result.shape)}"}
        error = distance(result, exact[name])
        limit = MATH_FACTOR * distance(plain[name], exact[name]) + floor(result.dtype)
        if error == float("inf"):
            return {"error": None, "limit": limit, "detail": f"{name} is not finite"}
        if worst["detail"] == "" or error / limit > worst["error"] / worst["limit"]:
            worst = {"error": error, "limit": limit, "detail": name}
    return worst
