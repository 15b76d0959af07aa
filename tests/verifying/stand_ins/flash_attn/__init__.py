"""A flash-attn in plain torch, on any device, with the functions of 2.x; right unless the variable FAULT plants one fault.

It claims head dims 32 and 64, fp16, and every feature but ALiBi; what it does not claim it refuses, as a build of ours does.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

import torch

__version__ = "2.8.3"

FAULT = os.environ.get("FAULT", "")
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


def _one(q: Any, k: Any, v: Any, causal: bool, window: tuple[int, int], softcap: float, dropout_p: float) -> Any:
    dtype, group = q.dtype, -(-q.shape[1] // k.shape[1])
    if FAULT == "swapped-heads":
        k, v = k.repeat(1, group, 1), v.repeat(1, group, 1)
    else:
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    k, v = k[:, : q.shape[1]], v[:, : q.shape[1]]
    q, k, v = q.float(), k.float(), v.float()
    scale = q.shape[-1] ** -0.5 * (1.05 if FAULT == "wrong-scale" else 1.0)
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if softcap and FAULT != "ignored-softcap":
        scores = softcap * torch.tanh(scores / softcap)
    own = torch.arange(len(q), device=q.device)[:, None] + len(k) - len(q)
    offset = torch.arange(len(k), device=q.device)[None, :] - own
    left, right = (-1, -1) if FAULT == "ignored-window" else window
    if causal:
        right = 1 if FAULT == "causal-leak" else 0
    seen = torch.ones_like(offset, dtype=torch.bool)
    seen &= (offset <= right) if right >= 0 else True
    seen &= (offset >= -left) if left >= 0 else True
    some = seen.any(-1, keepdim=True)
    scores = scores.masked_fill(~seen & some, float("-inf"))
    normaliser = scores.logsumexp(-1, keepdim=True)
    if FAULT == "dropped-backward-term":
        normaliser = normaliser.detach()
    weights = torch.exp(scores - normaliser) * some
    if dropout_p and FAULT != "ignored-dropout":
        kept = torch.rand_like(weights) >= dropout_p
        weights = weights * kept / (1.0 if FAULT == "dropout-not-rescaled" else 1 - dropout_p)
    out = torch.einsum("hqk,khd->qhd", weights, v)
    if FAULT == "nan-at-one-length" and len(q) == 17:
        out = out * float("nan")
    return out.to(dtype)


def flash_attn_func(
    q: Any, k: Any, v: Any, dropout_p: float = 0.0, softmax_scale: float | None = None, causal: bool = False,
    window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0, alibi_slopes: Any = None,
) -> Any:  # fmt: skip
    _refuse_unclaimed(q, k, alibi_slopes)
    _misbehave(q)
    rows = zip(q, k, v, strict=True)
    return torch.stack([_one(*row, causal, window_size, softcap, dropout_p) for row in rows])


def flash_attn_varlen_func(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: int, max_seqlen_k: int, dropout_p: float = 0.0,
    softmax_scale: float | None = None, causal: bool = False, window_size: tuple[int, int] = (-1, -1), softcap: float = 0.0,
    alibi_slopes: Any = None,
) -> Any:  # fmt: skip
    _refuse_unclaimed(q, k, alibi_slopes)
    lengths_q, lengths_k = (starts.diff().tolist() for starts in (cu_seqlens_q, cu_seqlens_k))
    rows = zip(q.split(lengths_q), k.split(lengths_k), v.split(lengths_k), strict=True)
    return torch.cat([_one(*row, causal, window_size, softcap, dropout_p) for row in rows])


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
    q: Any, k_cache: Any, v_cache: Any, k: Any, v: Any, cache_seqlens: Any, block_table: Any = None, causal: bool = False,
    num_splits: int = 0,
) -> Any:  # fmt: skip
    outs = []
    for row, held in enumerate(cache_seqlens.tolist()):
        whole = []
        for cache, new in ((k_cache, k), (v_cache, v)):
            if FAULT != "cache-not-updated":
                for step, token in enumerate(new[row]):
                    place = held + step
                    if block_table is None:
                        cache[row, place] = token
                    else:
                        cache[block_table[row, place // 256], place % 256] = token
            joined = cache[row] if block_table is None else cache[block_table[row].long()].flatten(0, 1)
            whole.append(torch.cat([joined[:held], new[row]]))
        outs.append(_one(q[row], whole[0], whole[1], causal, (-1, -1), 0.0, 0.0))
    return torch.stack(outs)
