"""The five functions of upstream's compiled module, with its positional arguments: what `flash_attn_interface.flash_attn_gpu` is.

Others call it directly (xformers' flash operator on compute capability 8.0 and up, sequence-parallel attention), so it must be whole.
Signatures: the bindings at the end of flash_api.cpp of flash-attn 2.8.3.post2, read 2026-11-25.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _layout
from ._cache import Cache, decode, gather_pages
from ._layout import Options, Sequences
from ._masks import Bounds
from ._refusals import check_features, check_inputs
from ._rotary import turn


def fwd(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor | None,
    alibi_slopes: Tensor | None,
    p_dropout: float,
    softmax_scale: float,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    return_softmax: bool,
    gen: Any = None,
) -> list[Tensor]:
    """Return output, log-sum-exp ``(batch, heads, queries)``, an empty tensor and the random state."""
    check_features(
        softcap=softcap, alibi_slopes=alibi_slopes, return_dropout_mask=return_softmax and p_dropout > 0, generator=gen
    )
    check_inputs(q, k, v)
    options = Options(softmax_scale, Bounds.of(is_causal, (window_size_left, window_size_right)), p_dropout)
    result, lse, rng = _layout.fixed_forward(options, q, k, v)
    return [_into(out, result), lse, q.new_empty(0), rng]


def varlen_fwd(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor | None,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    seqused_k: Tensor | None,
    leftpad_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    p_dropout: float,
    softmax_scale: float,
    zero_tensors: bool,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    return_softmax: bool,
    gen: Any = None,
) -> list[Tensor]:
    """Return output, log-sum-exp ``(heads, tokens)``, an empty tensor and the random state."""
    check_features(
        softcap=softcap, alibi_slopes=alibi_slopes, return_dropout_mask=return_softmax and p_dropout > 0, generator=gen
    )
    if block_table is not None:
        seqused_k = cu_seqlens_k.diff().to(torch.int32) if seqused_k is None else seqused_k
        k, v = gather_pages(k, block_table), gather_pages(v, block_table)
        cu_seqlens_k = torch.arange(k.shape[0] + 1, dtype=torch.int32, device=k.device) * k.shape[1]
        k, v = k.flatten(0, 1), v.flatten(0, 1)
    check_inputs(q, k, v, packed=True)
    starts, longest = (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k)
    sequences = Sequences.of(q, k, starts, longest, used=seqused_k, skipped=leftpad_k)
    options = Options(softmax_scale, Bounds.of(is_causal, (window_size_left, window_size_right)), p_dropout)
    result, lse, rng = _layout.packed_forward(options, q, k, v, sequences)
    return [_into(out, result), lse, q.new_empty(0), rng]


def bwd(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
    alibi_slopes: Tensor | None,
    p_dropout: float,
    softmax_scale: float,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    deterministic: bool,
    gen: Any = None,
    rng_state: Tensor | None = None,
) -> list[Tensor]:
    """Return the gradients, written into ``dq``, ``dk`` and ``dv`` where given, and an empty tensor."""
    check_features(softcap=softcap, alibi_slopes=alibi_slopes, generator=gen)
    check_inputs(q, k, v)
    bounds = Bounds.of(is_causal, (window_size_left, window_size_right))
    options = Options(softmax_scale, bounds, p_dropout, deterministic)
    grads = _layout.fixed_backward(options, dout, q, k, v, out, softmax_lse, _state(rng_state, p_dropout))
    return [*(_into(*pair) for pair in zip((dq, dk, dv), grads, strict=True)), q.new_empty(0)]


def varlen_bwd(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    alibi_slopes: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    p_dropout: float,
    softmax_scale: float,
    zero_tensors: bool,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    deterministic: bool,
    gen: Any = None,
    rng_state: Tensor | None = None,
) -> list[Tensor]:
    """Return the gradients, written into ``dq``, ``dk`` and ``dv`` where given, and an empty tensor."""
    check_features(softcap=softcap, alibi_slopes=alibi_slopes, generator=gen)
    check_inputs(q, k, v, packed=True)
    sequences = Sequences.of(q, k, (cu_seqlens_q, cu_seqlens_k), (max_seqlen_q, max_seqlen_k))
    bounds = Bounds.of(is_causal, (window_size_left, window_size_right))
    options = Options(softmax_scale, bounds, p_dropout, deterministic)
    grads = _layout.packed_backward(options, dout, q, k, v, out, softmax_lse, _state(rng_state, p_dropout), sequences)
    return [*(_into(*pair) for pair in zip((dq, dk, dv), grads, strict=True)), q.new_empty(0)]


def fwd_kvcache(
    q: Tensor,
    kcache: Tensor,
    vcache: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    seqlens_k: Tensor | None,
    rotary_cos: Tensor | None,
    rotary_sin: Tensor | None,
    cache_batch_idx: Tensor | None,
    leftpad_k: Tensor | None,
    block_table: Tensor | None,
    alibi_slopes: Tensor | None,
    out: Tensor | None,
    softmax_scale: float,
    is_causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    is_rotary_interleaved: bool,
    num_splits: int,
) -> list[Tensor]:
    """Return output and log-sum-exp ``(batch, heads, queries)``; new keys and values are written into the cache. No gradients."""
    check_features(softcap=softcap, alibi_slopes=alibi_slopes)
    if k is not None and (v is None or seqlens_k is None):
        raise RuntimeError("new keys need new values and the lengths of what the cache holds")
    if block_table is not None and (leftpad_k is not None or cache_batch_idx is not None):
        raise RuntimeError("a paged cache takes neither leftpad_k nor cache_batch_idx")
    room = kcache.shape[1] * (1 if block_table is None else block_table.shape[1])
    lengths = torch.full((q.shape[0],), room, dtype=torch.int32, device=q.device) if seqlens_k is None else seqlens_k
    if block_table is None and cache_batch_idx is None:
        kcache, vcache = kcache[: q.shape[0]], vcache[: q.shape[0]]  # a cache may have room for more sequences
    cache = Cache(kcache, vcache, lengths, cache_batch_idx, block_table)
    bounds = Bounds.of(is_causal, (window_size_left, window_size_right))
    if rotary_cos is not None and rotary_sin is not None and k is not None:
        position = lengths.long()[:, None]
        moves = 0 if bounds == Bounds() else 1  # without a mask all queries stand where the cache ends, as upstream has it
        of_queries = position + moves * torch.arange(q.shape[1], device=q.device)
        of_keys = position + torch.arange(k.shape[1], device=k.device)
        q = turn(q, rotary_cos[of_queries], rotary_sin[of_queries], is_rotary_interleaved)
        k = turn(k, rotary_cos[of_keys], rotary_sin[of_keys], is_rotary_interleaved)
    elif rotary_cos is not None or rotary_sin is not None:
        raise RuntimeError("rotary embedding needs cos, sin and new keys")
    if k is not None and v is not None:
        cache.write(k, v)
    result, lse = decode(Options(softmax_scale, bounds), q, cache, 0 if k is None else k.shape[1], leftpad_k)
    return [_into(out, result), lse]


def _into(target: Tensor | None, value: Tensor) -> Tensor:
    return value if target is None else target.copy_(value)


def _state(rng_state: Tensor | None, dropout: float) -> Tensor:
    """Return the random state; without one nothing says which elements the forward dropped."""
    if rng_state is None and dropout > 0:
        raise RuntimeError("the backward of an attention with dropout needs the rng_state of its forward")
    return torch.zeros(2, dtype=torch.int64) if rng_state is None else rng_state
