"""Rotary embedding in PyTorch's own operations: the one place where vectors are turned, for the cache, `layers` and `ops`."""

from __future__ import annotations

import torch
from torch import Tensor


def turn(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Return ``x`` with its first dims turned; what stands behind twice the width of ``cos`` is left. Computed in float32 at least.

    ``x`` is ``(tokens, heads, dim)``, ``(batch, tokens, heads, dim)`` or ``(batch, tokens, parts, heads, dim)``; ``cos`` and ``sin`` are
    ``(tokens, half)``, or ``(batch, tokens, half)`` where sequences differ. Pairs are neighbours when ``interleaved``, else halves.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    for _ in range(max(1, x.ndim - 3)):
        cos, sin = cos.unsqueeze(-2), sin.unsqueeze(-2)
    cos, sin, width = cos.to(dtype), sin.to(dtype), 2 * cos.shape[-1]
    turned, rest = x[..., :width].to(dtype), x[..., width:]
    first, second = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    pair = (first * cos - second * sin, first * sin + second * cos)
    joined = torch.stack(pair, -1).flatten(-2) if interleaved else torch.cat(pair, -1)
    return torch.cat([joined.to(x.dtype), rest], -1)


def angles(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the rows of ``cos`` and ``sin`` ``(positions, half)`` for the tokens of ``x``, as `turn` takes them.

    The tokens of each sequence are counted from ``seqlen_offsets``, one for all or one each. With ``cu_seqlens`` (the starts of packed
    sequences, and the end) ``x`` is ``(tokens, heads, dim)``. Nothing is fetched from the device. Raise `ValueError` where shapes do not
    go together or the tables are too short.
    """
    _check(x, cos, sin, seqlen_offsets, cu_seqlens, max_seqlen)
    if cu_seqlens is None and isinstance(seqlen_offsets, int):
        rows = slice(seqlen_offsets, seqlen_offsets + x.shape[1])
        return cos[rows], sin[rows]
    if cu_seqlens is None:
        assert isinstance(seqlen_offsets, Tensor)
        return _rows_at(cos, sin, seqlen_offsets.long()[:, None] + torch.arange(x.shape[1], device=x.device))
    token, starts = torch.arange(x.shape[0], device=x.device), cu_seqlens.long()
    number = torch.searchsorted(starts, token, right=True) - 1
    inside = number < len(starts) - 1
    offset = seqlen_offsets.long()[number.clamp(max=len(starts) - 2)] if isinstance(seqlen_offsets, Tensor) else seqlen_offsets
    return _rows_at(cos, sin, torch.where(inside, token - starts[number] + offset, len(cos)))


def _rows_at(cos: Tensor, sin: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows at ``position``; where the tables end nothing is turned, as in upstream's kernel (ops/triton/rotary.py of 2.8.3)."""
    position = position.long()
    known, place = (position < len(cos))[..., None], position.clamp(max=max(len(cos) - 1, 0))
    return torch.where(known, cos[place], 1.0), torch.where(known, sin[place], 0.0)


def _check(x: Tensor, cos: Tensor, sin: Tensor, offsets: int | Tensor, cu_seqlens: Tensor | None, max_seqlen: int | None) -> None:
    if cos.ndim != 2 or cos.shape != sin.shape or 2 * cos.shape[-1] > x.shape[-1]:
        raise ValueError(f"shapes do not go together: x {tuple(x.shape)}, cos {tuple(cos.shape)}, sin {tuple(sin.shape)}")
    if (x.ndim == 3) != (cu_seqlens is not None):
        raise ValueError(f"x is (tokens, heads, dim) with cu_seqlens, else it has a batch; here it is {tuple(x.shape)}")
    if cu_seqlens is not None and max_seqlen is None:
        raise ValueError("cu_seqlens needs max_seqlen")
    if isinstance(offsets, Tensor):
        batch = x.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
        if offsets.shape != (batch,) or offsets.dtype not in (torch.int32, torch.int64):
            raise ValueError(f"seqlen_offsets must be {batch} integers, not {tuple(offsets.shape)} of {offsets.dtype}")
    longest = max_seqlen if cu_seqlens is not None and max_seqlen is not None else x.shape[1]
    last = longest + (0 if isinstance(offsets, Tensor) else offsets)
    if last > len(cos):
        raise ValueError(f"cos and sin hold {len(cos)} positions, and {last} are asked for")
