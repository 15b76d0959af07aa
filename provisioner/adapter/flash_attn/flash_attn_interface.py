"""The functions of flash-attn 2.8 and the operators below them, under upstream's names and with upstream's arguments.

The operators are custom ones, as upstream's, so that `torch.compile` keeps them whole. (Their schemas are read from annotations, which
therefore must not be text: no ``from __future__ import annotations`` here.)
"""

from typing import Any, Optional, Union

import torch
from torch.nn.functional import pad

from . import _binding as flash_attn_gpu

Tensor = torch.Tensor


def _shape_of_state(dropout_p: float, sequences: int) -> tuple[int, ...]:
    """Packed sequences with dropout draw their numbers one by one."""
    return (sequences, 2) if dropout_p else (2,)


@torch.library.custom_op("flash_attn::_flash_attn_forward", mutates_args=())
def _flash_attn_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[Tensor],
    return_softmax: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    window = (window_size_left, window_size_right)
    out, lse, mask, rng = flash_attn_gpu.fwd(
        q, k, v, None, alibi_slopes, dropout_p, softmax_scale, causal, *window, softcap, return_softmax, None
    )
    return out, lse, mask, rng


@_flash_attn_forward.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, dropout_p: float, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lse = q.new_empty((q.shape[0], q.shape[2], q.shape[1]), dtype=torch.float32)
    return torch.empty_like(q, memory_format=torch.contiguous_format), lse, q.new_empty(0), torch.empty(2, dtype=torch.int64)


@torch.library.custom_op("flash_attn::_flash_attn_varlen_forward", mutates_args=())
def _flash_attn_varlen_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int = -1,
    window_size_right: int = -1,
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    return_softmax: bool = False,
    block_table: Optional[Tensor] = None,
    leftpad_k: Optional[Tensor] = None,
    seqused_k: Optional[Tensor] = None,
    zero_tensors: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out, lse, mask, rng = flash_attn_gpu.varlen_fwd(
        q,
        k,
        v,
        None,
        cu_seqlens_q,
        cu_seqlens_k,
        seqused_k,
        leftpad_k,
        block_table,
        alibi_slopes,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p,
        softmax_scale,
        zero_tensors,
        causal,
        window_size_left,
        window_size_right,
        softcap,
        return_softmax,
        None,
    )
    return out, lse, mask, rng


@_flash_attn_varlen_forward.register_fake
def _(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens_q: Tensor, cu_seqlens_k: Tensor, max_q: int, max_k: int, dropout_p: float, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lse = q.new_empty((q.shape[1], q.shape[0]), dtype=torch.float32)
    state = torch.empty(_shape_of_state(dropout_p, cu_seqlens_q.shape[0] - 1), dtype=torch.int64)
    return torch.empty_like(q, memory_format=torch.contiguous_format), lse, q.new_empty(0), state


@torch.library.custom_op("flash_attn::_flash_attn_backward", mutates_args=("dq", "dk", "dv"))
def _flash_attn_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Optional[Tensor],
    dk: Optional[Tensor],
    dv: Optional[Tensor],
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[Tensor],
    deterministic: bool,
    rng_state: Optional[Tensor] = None,
) -> Tensor:
    window = (window_size_left, window_size_right)
    grads = (dq, dk, dv, alibi_slopes, dropout_p, softmax_scale, causal, *window, softcap, deterministic, None, rng_state)
    return flash_attn_gpu.bwd(dout, q, k, v, out, softmax_lse, *grads)[3]


@_flash_attn_backward.register_fake
def _(dout: Tensor, q: Tensor, *_: Any) -> Tensor:
    return q.new_empty(0)


@torch.library.custom_op("flash_attn::_flash_attn_varlen_backward", mutates_args=("dq", "dk", "dv"))
def _flash_attn_varlen_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dq: Optional[Tensor],
    dk: Optional[Tensor],
    dv: Optional[Tensor],
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Optional[Tensor],
    deterministic: bool,
    rng_state: Optional[Tensor] = None,
    zero_tensors: bool = False,
) -> Tensor:
    return flash_attn_gpu.varlen_bwd(
        dout,
        q,
        k,
        v,
        out,
        softmax_lse,
        dq,
        dk,
        dv,
        cu_seqlens_q,
        cu_seqlens_k,
        alibi_slopes,
        max_seqlen_q,
        max_seqlen_k,
        dropout_p,
        softmax_scale,
        zero_tensors,
        causal,
        window_size_left,
        window_size_right,
        softcap,
        deterministic,
        None,
        rng_state,
    )[3]


@_flash_attn_varlen_backward.register_fake
def _(dout: Tensor, q: Tensor, *_: Any) -> Tensor:
    return q.new_empty(0)


_wrapped_flash_attn_forward = torch.ops.flash_attn._flash_attn_forward
_wrapped_flash_attn_varlen_forward = torch.ops.flash_attn._flash_attn_varlen_forward
_wrapped_flash_attn_backward = torch.ops.flash_attn._flash_attn_backward
_wrapped_flash_attn_varlen_backward = torch.ops.flash_attn._flash_attn_varlen_backward


class FlashAttnFunc(torch.autograd.Function):
    """Sequences of one length, ``(batch, tokens, heads, head dim)``, the head dim a multiple of 8."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dropout_p: float,
        softmax_scale: float,
        causal: bool,
        window_size: tuple[int, int],
        softcap: float,
        alibi_slopes: Optional[Tensor],
        deterministic: bool,
        return_softmax: bool,
        is_grad_enabled: bool,
    ) -> Any:
        options = (dropout_p, softmax_scale, causal, *window_size, softcap, alibi_slopes)
        out, lse, mask, rng = _wrapped_flash_attn_forward(q, k, v, *options, return_softmax and dropout_p > 0)
        if is_grad_enabled and any(x.requires_grad for x in (q, k, v)):
            ctx.save_for_backward(q, k, v, out, lse, rng)
            ctx.options, ctx.deterministic = options, deterministic
        ctx.mark_non_differentiable(lse, mask)
        return out, lse, mask

    @staticmethod
    def backward(ctx: Any, dout: Tensor, *_: Any) -> Any:
        q, k, v, out, lse, rng = ctx.saved_tensors
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
        _wrapped_flash_attn_backward(dout, q, k, v, out, lse, *grads, *ctx.options, ctx.deterministic, rng)
        return (*grads, *(None,) * 9)


class FlashAttnVarlenFunc(torch.autograd.Function):
    """Packed sequences, ``(tokens, heads, head dim)``, the head dim a multiple of 8."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float,
        softmax_scale: float,
        causal: bool,
        window_size: tuple[int, int],
        softcap: float,
        alibi_slopes: Optional[Tensor],
        deterministic: bool,
        return_softmax: bool,
        block_table: Optional[Tensor],
        is_grad_enabled: bool,
    ) -> Any:
        lengths = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
        options = (dropout_p, softmax_scale, causal, *window_size, softcap, alibi_slopes)
        with_mask = return_softmax and dropout_p > 0
        out, lse, mask, rng = _wrapped_flash_attn_varlen_forward(q, k, v, *lengths, *options, with_mask, block_table)
        if is_grad_enabled and any(x.requires_grad for x in (q, k, v)):
            if block_table is not None:
                raise NotImplementedError("a paged cache has no gradients: call it under torch.no_grad()")
            ctx.save_for_backward(q, k, v, out, lse, rng, cu_seqlens_q, cu_seqlens_k)
            ctx.longest, ctx.options, ctx.deterministic = (max_seqlen_q, max_seqlen_k), options, deterministic
        ctx.mark_non_differentiable(lse, mask)
        return out, lse, mask

    @staticmethod
    def backward(ctx: Any, dout: Tensor, *_: Any) -> Any:
        q, k, v, out, lse, rng, *starts = ctx.saved_tensors
        grads = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v)]
        lengths = (*starts, *ctx.longest)
        _wrapped_flash_attn_varlen_backward(dout, q, k, v, out, lse, *grads, *lengths, *ctx.options, ctx.deterministic, rng)
        return (*grads, *(None,) * 14)


def _padded(*tensors: Tensor) -> list[Tensor]:
    """Return tensors whose head dim is the next multiple of 8: the kernels load 16 bytes at a time."""
    return [pad(x, (0, -x.shape[-1] % 8)) if x.shape[-1] % 8 else x for x in tensors]


def flash_attn_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """Return attention over ``(batch, tokens, heads, head dim)``; with ``return_attn_probs`` also log-sum-exp and an empty tensor.

    Keys may have fewer heads, a divisor of the queries'. ``causal`` and ``window_size`` are laid from the bottom right corner: query
    ``i`` of ``n`` sees keys ``i + m - n - left`` to ``i + m - n + right`` of ``m``; one that sees none gets zeros.
    """
    dim = q.shape[-1]
    scale = dim**-0.5 if softmax_scale is None else softmax_scale
    options = (dropout_p, scale, causal, tuple(window_size), softcap, alibi_slopes, deterministic, return_attn_probs)
    out, lse, mask = FlashAttnFunc.apply(*_padded(q, k, v), *options, torch.is_grad_enabled())
    out = out[..., :dim]
    return (out, lse, mask) if return_attn_probs else out


def flash_attn_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_func` over keys and values in one tensor ``(batch, tokens, 2, heads, head dim)``."""
    options = (dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic, return_attn_probs)
    return flash_attn_func(q, *kv.unbind(2), *options)


def flash_attn_qkvpacked_func(
    qkv: Tensor,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_func` over one tensor ``(batch, tokens, 3, heads, head dim)``."""
    options = (dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic, return_attn_probs)
    return flash_attn_func(*qkv.unbind(2), *options)


def flash_attn_varlen_func(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
    block_table: Optional[Tensor] = None,
) -> Any:
    """Return attention over packed sequences ``(tokens, heads, head dim)`` that begin at ``cu_seqlens`` (int32, one more than there are).

    Masks and results as in `flash_attn_func`, within each sequence. With ``block_table`` the keys are pages of a cache, without
    gradients. Unless both ``cu_seqlens`` are the same tensor, their lengths are fetched from the device.
    """
    dim = q.shape[-1]
    scale = dim**-0.5 if softmax_scale is None else softmax_scale
    lengths = (cu_seqlens_q, cu_seqlens_k, int(max_seqlen_q), int(max_seqlen_k))
    options = (dropout_p, scale, causal, tuple(window_size), softcap, alibi_slopes, deterministic, return_attn_probs)
    out, lse, mask = FlashAttnVarlenFunc.apply(*_padded(q, k, v), *lengths, *options, block_table, torch.is_grad_enabled())
    out = out[..., :dim]
    return (out, lse, mask) if return_attn_probs else out


def flash_attn_varlen_kvpacked_func(
    q: Tensor,
    kv: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_varlen_func` over keys and values in one tensor ``(tokens, 2, heads, head dim)``."""
    lengths = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
    options = (dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic, return_attn_probs)
    return flash_attn_varlen_func(q, *kv.unbind(1), *lengths, *options)


def flash_attn_varlen_qkvpacked_func(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    dropout_p: float = 0.0,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    alibi_slopes: Optional[Tensor] = None,
    deterministic: bool = False,
    return_attn_probs: bool = False,
) -> Any:
    """`flash_attn_varlen_func` over one tensor ``(tokens, 3, heads, head dim)``."""
    options = (dropout_p, softmax_scale, causal, window_size, softcap, alibi_slopes, deterministic, return_attn_probs)
    return flash_attn_varlen_func(*qkv.unbind(1), cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, *options)


def flash_attn_with_kvcache(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k: Optional[Tensor] = None,
    v: Optional[Tensor] = None,
    rotary_cos: Optional[Tensor] = None,
    rotary_sin: Optional[Tensor] = None,
    cache_seqlens: Optional[Union[int, Tensor]] = None,
    cache_batch_idx: Optional[Tensor] = None,
    cache_leftpad: Optional[Tensor] = None,
    block_table: Optional[Tensor] = None,
    softmax_scale: Optional[float] = None,
    causal: bool = False,
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
    rotary_interleaved: bool = True,
    alibi_slopes: Optional[Tensor] = None,
    num_splits: int = 0,
    return_softmax_lse: bool = False,
) -> Any:
    """Return attention of ``q`` over a cache of keys and values, into which ``k`` and ``v`` are written first. No gradients.

    ``num_splits`` only tunes upstream's kernels and means nothing here. Lengths are fetched from the device.
    """
    if isinstance(cache_seqlens, int):
        cache_seqlens = torch.full((q.shape[0],), cache_seqlens, dtype=torch.int32, device=q.device)
    with torch.no_grad():
        out, lse = flash_attn_gpu.fwd_kvcache(
            q,
            k_cache,
            v_cache,
            k,
            v,
            cache_seqlens,
            rotary_cos,
            rotary_sin,
            cache_batch_idx,
            cache_leftpad,
            block_table,
            alibi_slopes,
            None,
            q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale,
            causal,
            *window_size,
            softcap,
            rotary_interleaved,
            num_splits,
        )
    return (out, lse) if return_softmax_lse else out
