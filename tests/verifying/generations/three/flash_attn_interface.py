"""FA3's functions with its signatures (hopper/flash_attn_interface.py of upstream's main, read 2026-11-25), in plain torch."""

from __future__ import annotations

from typing import Any

import torch
from plain_attention import attend, attend_batch, attend_packed


def flash_attn_func(
    q: Any, k: Any, v: Any, softmax_scale: Any = None, causal: bool = False, qv: Any = None, q_descale: Any = None,
    k_descale: Any = None, v_descale: Any = None, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    return attend_batch(q, k, v, causal=causal, right=True, window=window_size, softcap=softcap)


def flash_attn_varlen_func(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: Any, max_seqlen_k: Any, seqused_q: Any = None,
    seqused_k: Any = None, softmax_scale: Any = None, causal: bool = False, qv: Any = None, q_descale: Any = None,
    k_descale: Any = None, v_descale: Any = None, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    return attend_packed(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, right=True, window=window_size, softcap=softcap)


def flash_attn_with_kvcache(
    q: Any, k_cache: Any, v_cache: Any, k: Any = None, v: Any = None, qv: Any = None, rotary_cos: Any = None,
    rotary_sin: Any = None, cache_seqlens: Any = None, cache_batch_idx: Any = None, cache_leftpad: Any = None,
    page_table: Any = None, cu_seqlens_q: Any = None, cu_seqlens_k_new: Any = None, max_seqlen_q: Any = None,
    rotary_seqlens: Any = None, q_descale: Any = None, k_descale: Any = None, v_descale: Any = None, softmax_scale: Any = None,
    causal: bool = False, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    rotary_interleaved: bool = True, scheduler_metadata: Any = None, num_splits: int = 0, pack_gqa: Any = None,
    sm_margin: int = 0, return_softmax_lse: bool = False,
) -> Any:  # fmt: skip
    outs = []
    for row, held in enumerate(cache_seqlens.tolist()):
        whole = []
        for cache, new in ((k_cache, k), (v_cache, v)):
            for step, token in enumerate(new[row]):
                place = held + step
                if page_table is None:
                    cache[row, place] = token
                else:
                    size = cache.shape[1]
                    cache[page_table[row, place // size], place % size] = token
            joined = cache[row] if page_table is None else cache[page_table[row].long()].flatten(0, 1)
            whole.append(joined[: held + len(new[row])])
        outs.append(attend(q[row], *whole, causal=causal, right=True))
    return torch.stack(outs)
