"""The operators below the functions, under upstream's names and with upstream's arguments, and their gradients.

They are custom operators, as upstream's, so that `torch.compile` keeps them whole. (Schemas are read from annotations, which therefore
must not be text: no ``from __future__ import annotations`` here.)
"""

from typing import Any

import torch
from torch import Tensor

from . import _binding as flash_attn_gpu


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
    alibi_slopes: Tensor | None,
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
    alibi_slopes: Tensor | None = None,
    return_softmax: bool = False,
    block_table: Tensor | None = None,
    leftpad_k: Tensor | None = None,
    seqused_k: Tensor | None = None,
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
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor | None = None,
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
    dq: Tensor | None,
    dk: Tensor | None,
    dv: Tensor | None,
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
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor | None = None,
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


@torch.library.custom_op("flash_attn::_gradients", mutates_args=())
def _gradients(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
    dropout_p: float,
    softmax_scale: float,
    causal: bool,
    window_size_left: int,
    window_size_right: int,
    softcap: float,
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `_flash_attn_backward` writes into its caller's tensors: there, three gradients exist twice for a while."""
    window = (window_size_left, window_size_right)
    options = (alibi_slopes, dropout_p, softmax_scale, causal, *window, softcap, deterministic, None, rng_state)
    dq, dk, dv, _ = flash_attn_gpu.bwd(dout, q, k, v, out, softmax_lse, None, None, None, *options)
    return _own(dq), _own(dk), _own(dv)


@torch.library.custom_op("flash_attn::_varlen_gradients", mutates_args=())
def _varlen_gradients(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    softmax_lse: Tensor,
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
    alibi_slopes: Tensor | None,
    deterministic: bool,
    rng_state: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `_flash_attn_varlen_backward` writes into its caller's tensors."""
    dq, dk, dv, _ = flash_attn_gpu.varlen_bwd(
        *(dout, q, k, v, out, softmax_lse, None, None, None, cu_seqlens_q, cu_seqlens_k, alibi_slopes),
        max_seqlen_q=max_seqlen_q,
        max_seqlen_k=max_seqlen_k,
        p_dropout=dropout_p,
        softmax_scale=softmax_scale,
        zero_tensors=False,
        is_causal=causal,
        window_size_left=window_size_left,
        window_size_right=window_size_right,
        softcap=softcap,
        deterministic=deterministic,
        rng_state=rng_state,
    )
    return _own(dq), _own(dk), _own(dv)


@_gradients.register_fake
@_varlen_gradients.register_fake
def _(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    return dq, dk, dv


def _own(x: Tensor) -> Tensor:
    """Return ``x`` in contiguous memory that is its alone, as a custom operator must; PyTorch's backward may give parts of one tensor."""
    alone = x.is_contiguous() and x.untyped_storage().nbytes() == x.numel() * x.element_size()
    return x if alone else x.clone(memory_format=torch.contiguous_format)


_wrapped_flash_attn_forward = torch.ops.flash_attn._flash_attn_forward
_wrapped_flash_attn_varlen_forward = torch.ops.flash_attn._flash_attn_varlen_forward
_wrapped_flash_attn_backward = torch.ops.flash_attn._flash_attn_backward
_wrapped_flash_attn_varlen_backward = torch.ops.flash_attn._flash_attn_varlen_backward


class FlashAttnFunc(torch.autograd.Function):
    """Sequences of one length, ``(batch, tokens, heads, head dim)``, the head dim a multiple of 8."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        dropout_p: float,
        softmax_scale: float,
        causal: bool,
        window_size: tuple[int, int],
        softcap: float,
        alibi_slopes: Tensor | None,
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
        grads = _gradients(dout, q, k, v, out, lse, *ctx.options, ctx.deterministic, rng)
        return (*grads, *(None,) * 9)


class FlashAttnVarlenFunc(torch.autograd.Function):
    """Packed sequences, ``(tokens, heads, head dim)``, the head dim a multiple of 8."""

    @staticmethod
    def forward(
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
        alibi_slopes: Tensor | None,
        deterministic: bool,
        return_softmax: bool,
        block_table: Tensor | None,
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
        grads = _varlen_gradients(dout, q, k, v, out, lse, *starts, *ctx.longest, *ctx.options, ctx.deterministic, rng)
        return (*grads, *(None,) * 14)
