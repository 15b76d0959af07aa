"""What is handed to a kernel set, and which set takes it: the seam between flash-attn's functions and the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ._masks import Triangle


@dataclass(frozen=True)
class Packing:
    """Sequences one after the other: where each begins (int32, on the device) and the longest lengths."""

    starts_q: Tensor
    starts_k: Tensor
    longest_q: int
    longest_k: int


@dataclass(frozen=True)
class Problem:
    """One attention. Tensors are ``(batch, tokens, heads, head dim)``; with ``packing`` the batch is 1 and the sequences are in it.

    ``square`` says that each sequence has as many keys as queries. ``capability`` is None where there is no CUDA device.
    """

    dtype: torch.dtype
    head_dim: int
    capability: tuple[int, int] | None
    scale: float
    triangle: Triangle = Triangle.NONE
    window: int | None = None
    square: bool = False
    dropout: float = 0.0
    deterministic: bool = False
    backward: bool = False
    packing: Packing | None = None


class KernelSet(Protocol):
    """Kernels behind the seam. Log-sum-exps are ``(sequences, heads, longest queries)`` in float32, natural logarithm."""

    NAME: str

    def refusal(self, problem: Problem) -> str | None:
        """Say why these kernels do not take ``problem``; None when they do."""

    def forward(self, problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return output, log-sum-exp and the state of the random numbers (two int64)."""

    def backward(
        self, problem: Problem, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of ``q``, ``k`` and ``v``."""


@cache
def kernel_sets() -> tuple[Any, ...]:
    """Return the kernel sets of this installation, the preferred one first."""
    from . import _aten, _turing109

    return (_turing109, _aten) if _turing109.is_built() else (_aten,)


def choose(problem: Problem, sets: Sequence[Any] | None = None) -> Any:
    """Return the first set that takes ``problem``; raise `NotImplementedError` with every set's reason when none does.

    With dropout the backward must draw the numbers of the forward, so a set takes such a problem only when it can do both.
    """
    reasons = []
    for candidate in sets if sets is not None else kernel_sets():
        asked = (problem, replace(problem, backward=True)) if problem.dropout else (problem,)
        refused = [reason for one in asked if (reason := candidate.refusal(one)) is not None]
        if not refused:
            return candidate
        reasons.append(f"{candidate.NAME}: {refused[0]}")
    raise NotImplementedError("no kernels of this flash_attn take this call: " + "; ".join(reasons))


@cache
def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Return the device's compute capability, None when it is no CUDA device."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def aligned(x: Tensor) -> Tensor:
    """Return ``x``, copied where its rows do not lie on 16 bytes (8 half-precision numbers), as the kernels load them.

    They check the stride of tokens even where there is one token (kernel_forward.h of torch 2.14.1, read 2026-11-27), whose stride
    ``contiguous()`` would leave as it is.
    """
    counts = [dim == 1 or x.shape[dim] > 1 for dim in range(x.ndim - 1)]
    fits = x.stride(-1) == 1 and x.data_ptr() % 16 == 0
    fits = fits and all(x.stride(dim) % 8 == 0 for dim, counted in enumerate(counts) if counted)
    return x if fits else x.clone(memory_format=torch.contiguous_format)
