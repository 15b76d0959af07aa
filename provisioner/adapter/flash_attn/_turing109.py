"""The kernels of flash-attn 1.0.9, the last release with code for Turing (compute capability 7.5), compiled beside this file.

They take float16 and packed sequences, head dims up to 128 forward and 64 backward (fmha_api.cpp of 1.0.9, read 2026-11-24).
"""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ._masks import Triangle
from ._problem import Packing, Problem

NAME = "turing109"
FORWARD_DIM, BACKWARD_DIM = 128, 64
ROWS = 16
"""The forward rounds the longest query length up to this; its log-sum-exp has that many columns."""


def is_built() -> bool:
    """Say whether this installation holds the compiled kernels."""
    return _folder().is_dir()


@cache
def archs() -> tuple[str, ...]:
    """Return the architectures that they were compiled for, as ``sm_75`` or ``compute_75``."""
    return tuple(json.loads((_folder() / "build.json").read_text())["archs"]) if is_built() else ()


def _folder() -> Path:
    return Path(__file__).with_name("_kernels109")


@cache
def _kernels() -> Any:
    return importlib.import_module(f"{__package__}._kernels109.flash_attn_cuda")


def _runs_on(capability: tuple[int, int]) -> bool:
    """Say whether there is code for the device: a cubin for its own architecture, or PTX for an older one that 1.0.9 lets run."""
    number = capability[0] * 10 + capability[1]
    if f"sm_{number}" in archs():
        return True
    lets_run = capability == (7, 5) or capability[0] == 8 or capability == (9, 0)
    return lets_run and any(int(arch[8:]) <= number for arch in archs() if arch.startswith("compute_"))


def refusal(problem: Problem) -> str | None:
    """Say why the kernels of 1.0.9 do not take ``problem``; None when they do."""
    if problem.capability is None or not _runs_on(problem.capability):
        return f"compiled for {', '.join(archs())}"
    if problem.dtype is not torch.float16:
        return "float16 only"
    limit = BACKWARD_DIM if problem.backward else FORWARD_DIM
    if problem.head_dim > limit:
        return f"head dims up to {limit} {'backward' if problem.backward else 'forward'}"
    if problem.window is not None:
        return "no windows"
    if problem.triangle is not Triangle.NONE and not problem.square:
        return "masks only where there are as many keys as queries"
    return None


def forward(problem: Problem, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp and random state (`KernelSet.forward`)."""
    packing = problem.packing or _packed(q, k)
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    lse, rng = _kernels().fwd(
        *(_flat(x) for x in (q, k, v)),
        _flat(out),
        packing.starts_q,
        packing.starts_k,
        packing.longest_q,
        packing.longest_k,
        problem.dropout,
        problem.scale,
        False,  # zero_tensors
        problem.triangle is not Triangle.NONE,
        False,  # return_softmax
        0,  # num_splits: its own choice
        None,
    )
    return out, lse[:, :, : packing.longest_q], rng.cpu() if problem.dropout else torch.zeros(2, dtype=torch.int64)


def backward(
    problem: Problem, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients (`KernelSet.backward`); one split of the keys where they must not depend on the order of additions."""
    packing = problem.packing or _packed(q, k)
    padded = torch.nn.functional.pad(lse, (0, -packing.longest_q % ROWS), value=torch.inf).contiguous()
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    _kernels().bwd(
        _flat(grad.contiguous()),
        *(_flat(x) for x in (q, k, v)),
        _flat(out.contiguous()),
        padded,
        *(_flat(x) for x in (dq, dk, dv)),
        packing.starts_q,
        packing.starts_k,
        packing.longest_q,
        packing.longest_k,
        problem.dropout,
        problem.scale,
        False,  # zero_tensors
        problem.triangle is not Triangle.NONE,
        1 if problem.deterministic else 0,
        None,
        rng.to(q.device),
    )
    return dq, dk, dv


def _packed(q: Tensor, k: Tensor) -> Packing:
    starts_q, starts_k = (torch.arange(x.shape[0] + 1, dtype=torch.int32, device=x.device) * x.shape[1] for x in (q, k))
    return Packing(starts_q, starts_k, q.shape[1], k.shape[1])


def _flat(x: Tensor) -> Tensor:
    """Return ``(tokens, heads, head dim)`` with rows that can be loaded 16 bytes at a time."""
    flat = x.reshape(-1, *x.shape[2:])
    fits = flat.stride(-1) == 1 and flat.data_ptr() % 16 == 0 and all(stride % 8 == 0 for stride in flat.stride()[:-1])
    return flat if fits else flat.contiguous()
