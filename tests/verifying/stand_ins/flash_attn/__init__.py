"""A flash-attn in plain torch, on any device, with the functions of 2.x; the variable FAULT plants one fault, here or in the attention.

It claims head dims 32 and 64, fp16, and every feature but ALiBi; what it does not claim it refuses, as a build of ours does.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from plain_attention import FAULT, attend_batch, attend_cached, attend_packed

__version__ = "2.8.3"

HEAD_DIMS = (32, 64)


def _refuse_unclaimed(q: Any, k: Any, alibi_slopes: Any) -> None:
    if FAULT == "refuses-nothing":
        return
    if q.dtype is not torch.float16:
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    if q.shape[-1] > max(HEAD_DIMS):
        raise RuntimeError(f"this build has no forward kernel for head dim {q.shape[-1]}")
    if alibi_slopes is not None:
        raise RuntimeError("This flash attention build does not support alibi.")
    if q.shape[-2] % k.shape[-2]:
        raise RuntimeError("Number of heads in key/value must divide number of heads in query")


def _misbehave(q: Any) -> None:
    if FAULT == "hang":
        ctypes.PyDLL(None).pause()  # holds the interpreter, as a call that waits for a lost device does
    if FAULT == "crash":
        ctypes.string_at(0)
    if FAULT == "stub":
        ctypes.CDLL(None).printf(b"FATAL: FlashAttention requires building with sm version sm80-sm90, but was built for < 8.0!\n")
    if FAULT == "no-kernel-image":
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
    if FAULT == "illegal-access":
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if FAULT == "out-of-memory":
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def flash_attn_func(
    q: Any, k: Any, v: Any, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Any = None,
) -> Any:  # fmt: skip
    _refuse_unclaimed(q, k, alibi_slopes)
    _misbehave(q)
    options = {"window": window_size, "softcap": softcap, "dropout": dropout_p, "scale": softmax_scale}
    return attend_batch(q, k, v, causal=causal, right=True, **options)


def flash_attn_varlen_func(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0,
    softmax_scale: float | None = None, causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: Any = None,
) -> Any:  # fmt: skip
    _refuse_unclaimed(q, k, alibi_slopes)
    options = {"window": window_size, "softcap": softcap, "dropout": dropout_p, "scale": softmax_scale}
    return attend_packed(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, right=True, **options)


def flash_attn_qkvpacked_func(qkv: Any, **options: Any) -> Any:
    return flash_attn_func(*qkv.unbind(2), **options)


def flash_attn_kvpacked_func(q: Any, kv: Any, **options: Any) -> Any:
    return flash_attn_func(q, *kv.unbind(2), **options)


def flash_attn_varlen_qkvpacked_func(qkv: Any, cu_seqlens: Any, max_seqlen: int, **options: Any) -> Any:
    q, k, v = qkv.unbind(1)
    return flash_attn_varlen_func(q, k, v, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen, **options)


def flash_attn_varlen_kvpacked_func(q: Any, kv: Any, *lengths: Any, **options: Any) -> Any:
    return flash_attn_varlen_func(q, *kv.unbind(1), *lengths, **options)


def flash_attn_with_kvcache(
    q: Any, k_cache: Any, v_cache: Any, k: Any = None, v: Any = None, rotary_cos: Any = None, rotary_sin: Any = None,
    cache_seqlens: Any = None, cache_batch_idx: Any = None, cache_leftpad: Any = None, block_table: Any = None,
    softmax_scale: float | None = None, causal: bool = False, rotary_interleaved: bool = True, num_splits: int = 0,
) -> Any:  # fmt: skip
    rotary = None if rotary_cos is None else (rotary_cos, rotary_sin, rotary_interleaved)
    places = {"pages": block_table, "rows": cache_batch_idx, "left": cache_leftpad, "rotary": rotary}
    return attend_cached(q, k_cache, v_cache, k, v, cache_seqlens.tolist(), causal=causal, scale=softmax_scale, **places)
