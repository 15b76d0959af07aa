"""FA4's functions with the signatures of flash-attn-4 4.0.0b36 (flash_attn/cute/interface.py), in plain torch.

No bound is None, not -1; the output comes with the log-sum-exp; ``flash_attn`` itself has no ``__init__.py``.
"""

from __future__ import annotations

from typing import Any

from plain_attention import attend_batch, attend_packed

__version__ = "0.0.0"  # as upstream's: it asks for a distribution called fa4


def flash_attn_func(
    q: Any, k: Any, v: Any, qv: Any = None, gather_kv_indices: Any = None, softmax_scale: Any = None, causal: bool = False,
    window_size: Any = (None, None), learnable_sink: Any = None, softcap: float = 0.0, num_splits: int = 1, pack_gqa: Any = None,
    deterministic: bool = False, score_mod: Any = None, score_mod_bwd: Any = None, mask_mod: Any = None, aux_tensors: Any = None,
    aux_scalars: Any = None, block_sparse_tensors: Any = None, block_sparse_tensors_bwd: Any = None, return_lse: bool = False,
    gather_bwd_recompute_p: bool = False, gather_bwd_token_chunk: Any = None,
) -> Any:  # fmt: skip
    return attend_batch(q, k, v, causal=causal, right=True, scale=softmax_scale), None


def flash_attn_varlen_func(
    q: Any, k: Any, v: Any, qv: Any = None, cu_seqlens_q: Any = None, cu_seqlens_k: Any = None, max_seqlen_q: Any = None,
    max_seqlen_k: Any = None, min_seqlen_k: Any = None, seqused_q: Any = None, seqused_k: Any = None, gather_kv_indices: Any = None,
    page_table: Any = None, softmax_scale: Any = None, causal: bool = False, window_size: Any = (None, None),
    learnable_sink: Any = None, softcap: float = 0.0, num_splits: int = 1, pack_gqa: Any = None, deterministic: bool = False,
    score_mod: Any = None, score_mod_bwd: Any = None, mask_mod: Any = None, block_sparse_tensors: Any = None, aux_tensors: Any = None,
    aux_scalars: Any = None, return_lse: bool = False, scheduler_metadata: Any = None, seqlen_k_per_split: Any = None,
    disable_scheduler_metadata: bool = False, gather_bwd_recompute_p: bool = False, gather_bwd_token_chunk: Any = None,
) -> Any:  # fmt: skip
    return attend_packed(q, k, v, cu_seqlens_q, cu_seqlens_k, causal=causal, right=True, scale=softmax_scale), None
