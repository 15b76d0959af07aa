"""Rotary embedding with gradients: upstream's functions and module, over PyTorch's own operations.

Signatures: flash_attn/layers/rotary.py of flash-attn 2.8.3.post2, read 2026-11-27. What is not there: xPos (``scale_base``, and keys with
angles of their own).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._rotary import angles, turn

NO_XPOS = "this flash_attn has no xPos: scale_base, and angles for keys alone (cos_k, sin_k), are refused"


class TurnInPlace(torch.autograd.Function):
    """The first ``count`` entries of dim 2 (all for None) turned where they lie; its gradient is turned back.

    As upstream's, it does not mark its input as changed, so leaves and the pieces of an ``unbind`` are taken. Use what is returned.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, count: int | None) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.interleaved, ctx.count = interleaved, count
        return _turn_part(x, cos, sin, interleaved, count)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        cos, sin = ctx.saved_tensors
        return _turn_part(grads[0].clone(), cos, -sin, ctx.interleaved, ctx.count), None, None, None, None


def _turn_part(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, count: int | None) -> Tensor:
    part = x if count is None else x[:, :, :count]
    part.copy_(turn(part, cos, sin, interleaved))
    return x


def apply_rotary_emb(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    interleaved: bool = False,
    inplace: bool = False,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
) -> Tensor:
    """Return ``x`` turned by the angles of ``cos`` and ``sin`` ``(positions, half of the rotated dims)``; ``inplace`` it is overwritten.

    ``x`` is ``(batch, tokens, heads, dim)``, or ``(tokens, heads, dim)`` with ``cu_seqlens``. Each sequence's tokens are counted from
    ``seqlen_offsets``, one for all or one each. Raise `ValueError` where shapes do not go together or the tables are too short.
    """
    cos, sin = angles(x, cos.detach(), sin.detach(), seqlen_offsets, cu_seqlens, max_seqlen)
    return _in_place(x, cos, sin, interleaved, None) if inplace else turn(x, cos, sin, interleaved)


apply_rotary_emb_func = apply_rotary_emb
"""Upstream's older name, which the code of some models on the hub still imports."""


def apply_rotary_emb_torch(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Return ``x`` ``(batch, tokens, heads, dim)`` turned by ``cos`` and ``sin``, a row for each token: ``([batch,] tokens, half)``."""
    return turn(x, cos, sin, interleaved)


def apply_rotary_emb_qkv_(
    qkv: Tensor,
    cos: Tensor,
    sin: Tensor,
    cos_k: Tensor | None = None,
    sin_k: Tensor | None = None,
    interleaved: bool = False,
    seqlen_offsets: int | Tensor = 0,
    num_heads_q: int | None = None,
) -> Tensor:
    """Turn queries and keys in place and return ``qkv``: ``(batch, tokens, 3, heads, dim)``, or with ``num_heads_q`` query heads
    ``(batch, tokens, query heads + 2 · key heads, dim)``. Raise `NotImplementedError` for ``cos_k`` and ``sin_k``.
    """
    if cos_k is not None or sin_k is not None:
        raise NotImplementedError(NO_XPOS)
    if qkv.ndim == 5 and qkv.shape[2] == 3:
        count = 2
    elif qkv.ndim == 4 and num_heads_q is not None and qkv.shape[2] >= num_heads_q and (qkv.shape[2] - num_heads_q) % 2 == 0:
        count = (qkv.shape[2] + num_heads_q) // 2
    else:
        raise ValueError(
            f"qkv {tuple(qkv.shape)} is neither three of a kind nor has num_heads_q={num_heads_q} and as many keys as values"
        )
    return _in_place(qkv, *angles(qkv, cos, sin, seqlen_offsets), interleaved, count)


def apply_rotary_emb_kv_(
    kv: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False, seqlen_offsets: int | Tensor = 0
) -> Tensor:
    """Turn the keys of ``kv`` ``(batch, tokens, 2, heads, dim)`` in place and return it."""
    if kv.ndim != 5 or kv.shape[2] != 2:
        raise ValueError(f"kv is (batch, tokens, 2, heads, dim), not {tuple(kv.shape)}")
    return _in_place(kv, *angles(kv, cos, sin, seqlen_offsets), interleaved, 1)


def _in_place(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, count: int | None) -> Tensor:
    turned: Tensor = TurnInPlace.apply(x, cos, sin, interleaved, count)
    return turned


class RotaryEmbedding(torch.nn.Module):
    """Rotary embedding that keeps its tables: ``base ** (-2i / dim)`` radians a position for pair ``i``.

    Raise `NotImplementedError` for ``scale_base``, and for positions in 16 bits (``pos_idx_in_fp32=False``, which flash-attn 2.7 had).
    """

    inv_freq: Tensor

    def __init__(
        self,
        dim: int,
        base: float = 10000.0,
        interleaved: bool = False,
        scale_base: float | None = None,
        device: torch.device | str | None = None,
        *,
        pos_idx_in_fp32: bool = True,
    ) -> None:
        super().__init__()
        if scale_base is not None:
            raise NotImplementedError(NO_XPOS)
        if not pos_idx_in_fp32:
            raise NotImplementedError(
                "this flash_attn computes positions in float32, as 2.8 does: leave out pos_idx_in_fp32=False"
            )
        self.dim = dim
        self.base = float(base)
        self.interleaved = interleaved
        self.scale_base = scale_base
        self.register_buffer("inv_freq", self._compute_inv_freq(device), persistent=False)
        self.register_buffer("scale", None, persistent=False)
        self._seq_len_cached = 0
        self._cos_cached: Tensor | None = None
        self._sin_cached: Tensor | None = None
        self._cos_k_cached: Tensor | None = None
        self._sin_k_cached: Tensor | None = None

    def _compute_inv_freq(self, device: torch.device | str | None = None) -> Tensor:
        """Return the radians a position ``(dim / 2)``, float32."""
        return self.base ** -(torch.arange(0, self.dim, 2, device=device, dtype=torch.float32) / self.dim)

    def _update_cos_sin_cache(
        self, seqlen: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        """Make the tables anew unless they hold ``seqlen`` positions, there and in ``dtype``, and can be trained with."""
        kept = self._cos_cached
        fits = kept is not None and seqlen <= self._seq_len_cached and (kept.device, kept.dtype) == (device, dtype)
        if kept is not None and fits and not (self.training and kept.is_inference()):
            return
        rounded = self.inv_freq.dtype != torch.float32  # a model moved to 16 bits takes its buffers along
        speed = self._compute_inv_freq(device) if rounded else self.inv_freq
        angle = torch.arange(seqlen, device=device, dtype=torch.float32)[:, None] * speed
        self._seq_len_cached = seqlen
        self._cos_cached, self._sin_cached = angle.cos().to(dtype), angle.sin().to(dtype)

    def forward(
        self,
        qkv: Tensor,
        kv: Tensor | None = None,
        seqlen_offset: int | Tensor = 0,
        max_seqlen: int | None = None,
        num_heads_q: int | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Turn queries and keys in place; return ``qkv`` (as `apply_rotary_emb_qkv_` takes it), or queries ``(batch, tokens, heads, dim)``
        and ``kv`` (as `apply_rotary_emb_kv_`). Where ``seqlen_offset`` is a tensor, ``max_seqlen`` says how long the tables must be.
        """
        if max_seqlen is not None:
            self._update_cos_sin_cache(max_seqlen, device=qkv.device, dtype=qkv.dtype)
        elif isinstance(seqlen_offset, int):
            self._update_cos_sin_cache(qkv.shape[1] + seqlen_offset, device=qkv.device, dtype=qkv.dtype)
        cos, sin = self._cos_cached, self._sin_cached
        if cos is None or sin is None:
            raise ValueError("a seqlen_offset for each sequence needs max_seqlen")
        if kv is None:
            return apply_rotary_emb_qkv_(
                qkv, cos, sin, interleaved=self.interleaved, seqlen_offsets=seqlen_offset, num_heads_q=num_heads_q
            )
        q = apply_rotary_emb(qkv, cos, sin, self.interleaved, inplace=True, seqlen_offsets=seqlen_offset)
        return q, apply_rotary_emb_kv_(kv, cos, sin, self.interleaved, seqlen_offset)
