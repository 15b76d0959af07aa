"""PyTorch's own memory-efficient attention kernels (compute capability 5.0 and up), called below `scaled_dot_product_attention`.

What they can do that SDPA does not offer: packed sequences, windows, triangles from either corner, and the log-sum-exp.
Both operators have had one schema from torch 2.6 to 2.14 (native_functions.yaml in the wheels of 2.6.0 to 2.14.1, read 2026-11-25).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._problem import Problem, aligned

NAME = "aten"
ALIGNMENT = 32
"""Rows of the log-sum-exp are padded to this (kAlignLSE in kernel_forward.h)."""


def refusal(problem: Problem) -> str | None:
    """Say why PyTorch's kernels do not take ``problem``; None when they do."""
    if problem.dtype is torch.bfloat16 and problem.capability is not None and problem.capability < (8, 0):
        major, minor = problem.capability
        return f"bfloat16 needs compute capability 8.0, this GPU has {major}.{minor}; use float16"
    if problem.packing is not None and problem.dropout:
        return "packed sequences with dropout: forward and backward draw different numbers"
    return None


def forward(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp and random state (`KernelSet.forward`)."""
    longest_q, _ = _longest(problem, q, k)
    out, lse, seed, offset, _, _ = torch.ops.aten._efficient_attention_forward(
        aligned(q),
        aligned(k),
        aligned(v),
        None,
        *_sequences(problem, q, k),
        problem.dropout,
        int(problem.triangle),
        True,
        scale=problem.scale,
        window_size=problem.window,
    )
    state = torch.stack([seed.reshape(()), offset.reshape(())]) if problem.dropout else torch.zeros(2, dtype=torch.int64)
    return out, lse[:, :, :longest_q], state


def backward(
    problem: Problem, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (`KernelSet.backward`).

    Rows of the log-sum-exp beyond the queries are filled with infinity, which makes their probabilities 0: the kernels read them.
    """
    padded = torch.nn.functional.pad(lse, (0, -lse.shape[-1] % ALIGNMENT), value=torch.inf).contiguous()
    dq, dk, dv, _ = torch.ops.aten._efficient_attention_backward(
        grad.contiguous(),
        aligned(q),
        aligned(k),
        aligned(v),
        None,
        out.contiguous(),
        *_sequences(problem, q, k),
        padded,
        problem.dropout,
        rng[0],
        rng[1],
        int(problem.triangle),
        False,
        scale=problem.scale,
        num_splits_key=1 if problem.deterministic else None,
        window_size=problem.window,
    )
    return dq, dk, dv


def _longest(problem: Problem, q: Tensor, k: Tensor) -> tuple[int, int]:
    packing = problem.packing
    return (packing.longest_q, packing.longest_k) if packing else (q.shape[1], k.shape[1])


def _sequences(problem: Problem, q: Tensor, k: Tensor) -> tuple[Any, ...]:
    """Return cu_seqlens_q, cu_seqlens_k, max_seqlen_q and max_seqlen_k, the same in both operators since torch 2.2."""
    starts = (problem.packing.starts_q, problem.packing.starts_k) if problem.packing else (None, None)
    return (*starts, *_longest(problem, q, k))
