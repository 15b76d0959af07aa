"""What no kernel set here can do, refused in words before anything is computed. Nothing is ignored silently."""

from __future__ import annotations

import torch
from torch import Tensor

from ._problem import capability_of

HALVES = (torch.float16, torch.bfloat16)
OPERATOR = "aten::_efficient_attention_forward"


def check_inputs(q: Tensor, k: Tensor, v: Tensor, *, packed: bool = False) -> None:
    """Raise where upstream's checks would: device, dtype, shapes, grouped heads. (CPU tensors pass if this torch has such kernels.)

    ``packed`` tensors are ``(tokens, heads, dim)``, others ``(batch, tokens, heads, dim)``.
    """
    dims = 3 if packed else 4
    if q.ndim != dims or k.ndim != dims or not (packed or q.shape[0] == k.shape[0]):
        raise RuntimeError(f"shapes do not go together: query {tuple(q.shape)}, key {tuple(k.shape)}")
    if len({x.device for x in (q, k, v)}) > 1 or len({x.dtype for x in (q, k, v)}) > 1:
        raise RuntimeError("query, key and value must have one device and one dtype")
    if capability_of(q.device) is not None and q.dtype not in HALVES:
        raise RuntimeError(f"FlashAttention only supports fp16 and bf16, not {q.dtype}")
    if capability_of(q.device) is None and not torch._C._dispatch_has_kernel_for_dispatch_key(OPERATOR, q.device.type.upper()):
        raise RuntimeError(f"query, key and value must be on a CUDA device, not on {q.device}")
    if q.shape[-1] != k.shape[-1] or k.shape != v.shape:
        raise RuntimeError(f"shapes do not go together: query {tuple(q.shape)}, key {tuple(k.shape)}, value {tuple(v.shape)}")
    if q.shape[-1] % 8:
        raise RuntimeError("query, key and value must have a head dim that is a multiple of 8")
    if k.shape[-2] == 0 or q.shape[-2] % k.shape[-2]:
        raise RuntimeError(f"{q.shape[-2]} query heads cannot be grouped over {k.shape[-2]} key heads")


def check_features(
    *, softcap: float, alibi_slopes: Tensor | None, return_dropout_mask: bool = False, generator: object = None
) -> None:
    """Raise `NotImplementedError` for what neither kernel set offers."""
    if softcap:
        raise NotImplementedError("this flash_attn has no softcap: neither PyTorch's kernels nor those of 1.0.9 know it")
    if alibi_slopes is not None:
        raise NotImplementedError("this flash_attn takes no alibi_slopes; add the bias with scaled_dot_product_attention")
    if return_dropout_mask:
        raise NotImplementedError("this flash_attn cannot return the dropout pattern (return_attn_probs with dropout_p > 0)")
    if generator is not None:
        raise NotImplementedError("this flash_attn draws dropout from the device's default generator only")
