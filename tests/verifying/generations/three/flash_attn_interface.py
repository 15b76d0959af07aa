"""FA3's functions with its signatures (hopper/flash_attn_interface.py of upstream's main, read 2026-11-25), in plain torch."""

from __future__ import annotations

from typing import Any

from flash_attn_config import LEFT_OUT  # type: ignore[import-not-found]
from plain_attention import attend_batch, attend_cached, attend_packed


def flash_attn_func(
    q: Any, k: Any, v: Any, softmax_scale: Any = None, causal: bool = False, qv: Any = None, q_descale: Any = None,
    k_descale: Any = None, v_descale: Any = None, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    return _in_this_build(
        attend_batch(q, k, v, causal=causal, right=True, window=window_size, softcap=softcap, scale=softmax_scale)
    )


def _in_this_build(out: Any) -> Any:
    """Return ``out``, whose head dim and gradients must be in the build (the refusals of hopper/flash_api.cpp and its interface)."""
    if f"HDIM{out.shape[-1]}" in LEFT_OUT:
        raise RuntimeError(f"This flash attention build does not support hdim {out.shape[-1]}.")
    if out.requires_grad and "BACKWARD" in LEFT_OUT:
        out.register_hook(_refuse)
    return out


def _refuse(gradient: Any) -> None:
    raise RuntimeError("This flash attention build does not support backward.")


def flash_attn_varlen_func(
    q: Any, k: Any, v: Any, cu_seqlens_q: Any, cu_seqlens_k: Any, max_seqlen_q: Any, max_seqlen_k: Any, seqused_q: Any = None,
    seqused_k: Any = None, softmax_scale: Any = None, causal: bool = False, qv: Any = None, q_descale: Any = None,
    k_descale: Any = None, v_descale: Any = None, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False, sm_margin: int = 0, return_attn_probs: bool = False,
) -> Any:  # fmt: skip
    return attend_packed(
        q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, right=True, window=window_size, softcap=softcap, scale=softmax_scale
    )


def flash_attn_with_kvcache(
    q: Any, k_cache: Any, v_cache: Any, k: Any = None, v: Any = None, qv: Any = None, rotary_cos: Any = None,
    rotary_sin: Any = None, cache_seqlens: Any = None, cache_batch_idx: Any = None, cache_leftpad: Any = None,
    page_table: Any = None, cu_seqlens_q: Any = None, cu_seqlens_k_new: Any = None, max_seqlen_q: Any = None,
    rotary_seqlens: Any = None, q_descale: Any = None, k_descale: Any = None, v_descale: Any = None, softmax_scale: Any = None,
    causal: bool = False, window_size: Any = (-1, -1), attention_chunk: int = 0, softcap: float = 0.0,
    rotary_interleaved: bool = True, scheduler_metadata: Any = None, num_splits: int = 0, pack_gqa: Any = None,
    sm_margin: int = 0, return_softmax_lse: bool = False,
) -> Any:  # fmt: skip
    rotary = None if rotary_cos is None else (rotary_cos, rotary_sin, rotary_interleaved)
    places = {"pages": page_table, "rows": cache_batch_idx, "left": cache_leftpad, "rotary": rotary}
    return attend_cached(q, k_cache, v_cache, k, v, cache_seqlens.tolist(), causal=causal, scale=softmax_scale, **places)
