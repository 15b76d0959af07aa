"""The public functions of flash-attn 1.0.9 with its signatures (flash_attn_interface.py of the sdist), in plain torch.

``dropout_p`` has no default, key heads equal query heads, and the first query sees the first key.
"""

from __future__ import annotations

from typing import Any

import torch
from plain_attention import attend_packed


def _check(q: Any, k: Any) -> None:
    if q.dtype not in (torch.float16, torch.bfloat16):
        raise RuntimeError("Expected q_dtype == torch::kFloat16 || ((is_sm8x || is_sm90) && q_dtype == torch::kBFloat16)")
    if q.shape[-1] % 8 or q.shape[-1] > 128:
        raise RuntimeError("Expected (head_size % 8 == 0) && (head_size <= 128) to be true, but got false.")
    if q.shape[1:] != k.shape[1:]:
        raise RuntimeError("k must have shape (total_k, num_heads, head_size)")


def flash_attn_unpadded_func(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float,
    softmax_scale: float | None = None, causal: bool = False, return_attn_probs: bool = False, deterministic: bool = False,
) -> Any:  # fmt: skip
    _check(q, k)
    return attend_packed(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, right=False, dropout=dropout_p, scale=softmax_scale)


def flash_attn_unpadded_kvpacked_func(
    q: Any, kv: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float,
    softmax_scale: float | None = None, causal: bool = False, return_attn_probs: bool = False, deterministic: bool = False,
) -> Any:  # fmt: skip
    k, v = kv.unbind(1)
    return flash_attn_unpadded_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, dropout_p, softmax_scale, causal
    )


def flash_attn_unpadded_qkvpacked_func(
    qkv: Any, cu_seqlens: Any, max_seqlen: int, dropout_p: float, softmax_scale: float | None = None, causal: bool = False,
    return_attn_probs: bool = False, deterministic: bool = False,
) -> Any:  # fmt: skip
    q, k, v = qkv.unbind(1)
    lengths = (cu_seqlens, cu_seqlens, max_seqlen, max_seqlen)
    return flash_attn_unpadded_func(q, k, v, *lengths, dropout_p, softmax_scale, causal)
