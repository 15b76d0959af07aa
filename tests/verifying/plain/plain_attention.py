"""Attention in plain torch for the stand-ins of all generations, right unless the variable FAULT plants one fault.

Written apart from the reference that it is measured against: another order of sums, the softmax by its log-sum-exp, float32.
"""

from __future__ import annotations

import os
from typing import Any

import torch

FAULT = os.environ.get("FAULT", "")


def attend(
    q: Any, k: Any, v: Any, *, causal: bool, right: bool, window: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    dropout: float = 0.0, scale: float | None = None,
) -> Any:  # fmt: skip
    """Return one sequence's output; ``right``: the last query sees the last key (else the first sees the first)."""
    dtype, (k, v) = q.dtype, _over_query_heads(q, k, v)
    if FAULT == "long-keys-lost":
        k, v = k[-1024:], v[-1024:]
    q, k, v = q.float(), k.float(), v.float()
    scores = torch.einsum("qhd,khd->hqk", q, k) * _scale(q, scale)
    if softcap and FAULT != "ignored-softcap":
        scores = softcap * torch.tanh(scores / softcap)
    seen = _seen(q, k, causal, right != (FAULT == "other-alignment"), window)
    some = seen.any(-1, keepdim=True)
    scores = scores.masked_fill(~seen & some, float("-inf"))
    normaliser = scores.logsumexp(-1, keepdim=True)
    if FAULT == "dropped-backward-term":
        normaliser = normaliser.detach()
    out = _weighted(torch.exp(scores - normaliser) * some, v, dropout)
    if FAULT == "nan-at-one-length" and len(q) == 17:
        out = out * float("nan")
    return out.to(dtype)


def _over_query_heads(q: Any, k: Any, v: Any) -> tuple[Any, Any]:
    group = -(-q.shape[1] // k.shape[1])
    swapped = FAULT == "swapped-heads" or (FAULT == "decode-swaps-heads" and len(q) == 1)
    wide = [x.repeat(1, group, 1) if swapped else x.repeat_interleave(group, 1) for x in (k, v)]
    return wide[0][:, : q.shape[1]], wide[1][:, : q.shape[1]]


def _scale(q: Any, scale: float | None) -> float:
    own = float(q.shape[-1] ** -0.5)
    chosen = own if scale is None or FAULT == "ignored-scale" else scale
    return chosen * (1.05 if FAULT == "wrong-scale" else 1.0)


def _seen(q: Any, k: Any, causal: bool, right: bool, window: tuple[int, int]) -> Any:
    own = torch.arange(len(q), device=q.device)[:, None] + (len(k) - len(q) if right else 0)
    offset = torch.arange(len(k), device=q.device)[None, :] - own
    before, after = (-1, -1) if FAULT == "ignored-window" else window
    if causal:
        after = 1 if FAULT == "causal-leak" else 0
    seen = torch.ones_like(offset, dtype=torch.bool)
    seen &= (offset <= after) if after >= 0 else True
    seen &= (offset >= -before) if before >= 0 else True
    if FAULT == "second-tile-leaks" and causal and q.shape[-1] == 32:
        seen[128:] |= offset[128:] == 1
    return seen


def _weighted(weights: Any, v: Any, dropout: float) -> Any:
    if not dropout or FAULT == "ignored-dropout":
        return torch.einsum("hqk,khd->qhd", weights, v)
    kept = torch.rand_like(weights) >= dropout
    if FAULT == "heads-drop-alike":
        kept = kept[:1].expand_as(kept)
    kept = kept / (1.0 if FAULT == "dropout-not-rescaled" else 1 - dropout)
    out = torch.einsum("hqk,khd->qhd", weights * kept, v)
    if FAULT != "backward-drops-others":
        return out
    other = torch.cat([kept[..., :128], kept[..., 128:].flip(0)], -1)
    gradient = torch.einsum("hqk,khd->qhd", weights * other, v)
    return out.detach() + gradient - gradient.detach()


def attend_batch(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """Return the outputs of sequences of equal length."""
    if FAULT == "assumes-contiguous":
        q, k, v = (x.as_strided(x.shape, torch.empty(x.shape).stride()) for x in (q, k, v))
    return torch.stack([attend(*row, **options) for row in zip(q, k, v, strict=True)])


def attend_packed(q: Any, k: Any, v: Any, starts_q: Any, starts_k: Any, **options: Any) -> Any:
    """Return the outputs of sequences that lie one after the other."""
    lengths_q, lengths_k = starts_q.diff().tolist(), starts_k.diff().tolist()
    rows = zip(q.split(lengths_q), k.split(lengths_k), v.split(lengths_k), strict=True)
    return torch.cat([attend(*row, **options) for row in rows])


def attend_cached(
    q: Any, k_cache: Any, v_cache: Any, k: Any, v: Any, held: list[int], *, causal: bool, pages: Any = None, rows: Any = None,
    left: Any = None, rotary: tuple[Any, Any, bool] | None = None, scale: float | None = None,
) -> Any:  # fmt: skip
    """Write ``k`` and ``v`` behind the ``held`` places of each sequence, in place, and return the outputs over what is held then."""
    outs = []
    for index, count in enumerate(held):
        row = index if rows is None or FAULT == "rows-ignored" else int(rows[index])
        first = 0 if left is None or FAULT == "left-padding-ignored" else int(left[index])
        turned = [q[index], k[index]]
        if rotary is not None:
            turned = [_turn(x, count + (FAULT == "rotary-one-off"), *rotary) for x in turned]
        whole = []
        for cache, new in ((k_cache, turned[1]), (v_cache, v[index])):
            order = torch.tensor([row]) if pages is None else pages[index].long()
            order = order.flip(0) if FAULT == "pages-in-order" else order
            whole.append(_append(cache, order, count, new)[first:])
        outs.append(attend(turned[0], *whole, causal=causal, right=True, scale=scale))
    return torch.stack(outs)


def _append(cache: Any, order: Any, count: int, new: Any) -> Any:
    """Write ``new`` behind ``count`` places of the sequence whose places are the rows ``order`` of the cache, and return its tokens."""
    size = cache.shape[1]
    for step in range(len(new) + (FAULT == "cache-overrun")):
        place = count + step
        if FAULT != "cache-not-updated":
            cache[order[place // size], place % size] = new[min(step, len(new) - 1)]
    return torch.cat([cache[order].flatten(0, 1)[:count], new])


def _turn(x: Any, place: int, cos: Any, sin: Any, interleaved: bool) -> Any:
    """Return ``x`` ``(tokens, heads, dims)`` turned as complex numbers, from ``place`` on."""
    angles = torch.complex(cos.float(), sin.float())[place : place + len(x), None]
    width = 2 * cos.shape[-1]
    part = x[..., :width].float()
    pairs = part.unflatten(-1, (-1, 2)) if interleaved else part.unflatten(-1, (2, -1)).transpose(-1, -2)
    turned = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * angles)
    joined = turned.flatten(-2) if interleaved else turned.transpose(-1, -2).flatten(-2)
    return torch.cat([joined.to(x.dtype), x[..., width:]], -1)
