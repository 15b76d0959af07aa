"""Attention as its formula says, in plain torch, for the stand-ins of the other generations; FAULT plants a fault."""

from __future__ import annotations

import os
from typing import Any

import torch

FAULT = os.environ.get("FAULT", "")


def attend(
    q: Any, k: Any, v: Any, *, causal: bool, right: bool, window: tuple[int, int] = (-1, -1), softcap: float = 0.0, dropout: float = 0.0
) -> Any:  # fmt: skip
    """Return one sequence's output; ``right``: the last query sees the last key (else the first sees the first)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scale = q.shape[-1] ** -0.5 * (1.05 if FAULT == "wrong-scale" else 1.0)
    scores = torch.einsum("qhd,khd->hqk", q.float(), k.float()) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if FAULT == "other-alignment":
        right = not right
    own = torch.arange(len(q))[:, None] + (len(k) - len(q) if right else 0)
    offset = torch.arange(len(k))[None, :] - own
    before, after = window[0], 0 if causal else window[1]
    seen = torch.ones_like(offset, dtype=torch.bool)
    seen &= (offset <= after) if after >= 0 else True
    seen &= (offset >= -before) if before >= 0 else True
    some = seen.any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~seen & some, float("-inf")), -1) * some
    if dropout:
        weights = weights * (torch.rand_like(weights) >= dropout) / (1 - dropout)
    return torch.einsum("hqk,khd->qhd", weights, v.float()).to(q.dtype)


def attend_batch(q: Any, k: Any, v: Any, **options: Any) -> Any:
    """Return the outputs of sequences of equal length."""
    return torch.stack([attend(*row, **options) for row in zip(q, k, v, strict=True)])


def attend_packed(q: Any, k: Any, v: Any, starts_q: Any, starts_k: Any, **options: Any) -> Any:
    """Return the outputs of sequences that lie one after the other."""
    lengths_q, lengths_k = starts_q.diff().tolist(), starts_k.diff().tolist()
    rows = zip(q.split(lengths_q), k.split(lengths_k), v.split(lengths_k), strict=True)
    return torch.cat([attend(*row, **options) for row in rows])
