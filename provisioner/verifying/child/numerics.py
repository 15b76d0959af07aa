"""One case: make inputs, call the function under test, and measure it against float64 and against plain attention."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch

from provisioner.verifying.child.cases import Case
from provisioner.verifying.child.interfaces import Interface, call
from provisioner.verifying.child.reference import Rule, attention, compare

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}

SIGMAS = 6.0
"""How many standard deviations the rate of dropped weights may be off: 2e-9 by chance."""

SCORE_SCALE = 3.0
"""Queries are this many times a normal deviate, so that scores spread (a wrong scale, mask or cap then shows) yet nothing overflows."""


@dataclass(frozen=True)
class Inputs:
    """Leaves of one case, packed: ``(tokens, heads, head dim)``; ``grad`` is the gradient of the output; ``slopes`` per head or None."""

    q: Any
    k: Any
    v: Any
    grad: Any
    slopes: Any


def measure(interface: Interface, case: Case, inputs: Inputs) -> dict[str, Any]:
    """Return ``error``, ``limit`` and ``detail`` of a case; raises whatever the function under test raises."""
    keep = None
    if case.dropout and case.refused is None:
        keep = find_kept(interface, case, inputs)
        if wrong := judge_kept(keep, case.dropout):
            return wrong
    results = _tested(interface, case, inputs)
    exact, plain = (by_formula(interface, case, inputs, dtype, keep) for dtype in (torch.float64, inputs.q.dtype))
    return compare(results, exact, plain)


def make_inputs(case: Case, device: str) -> Inputs:
    """Return the inputs of a case, the same in every run: the seed is its name."""
    dtype = DTYPES[case.dtype]
    maker = torch.Generator(device="cpu").manual_seed(_seed(case))

    def normal(tokens: int, heads: int, scale: float = 1.0) -> Any:
        values = torch.randn(tokens, heads, case.head_dim, generator=maker) * scale
        return values.to(device=device, dtype=dtype)

    queries, keys = (sum(pair[side] for pair in case.lengths) for side in (0, 1))
    q = normal(queries, case.heads[0], 1.0 if case.dropout else SCORE_SCALE)
    k, v = normal(keys, case.heads[1]), normal(keys, case.heads[1])
    slopes = torch.logspace(-1, -6, case.heads[0], base=2, device=device) if case.alibi else None
    return Inputs(q, k, v, normal(queries, case.heads[0]), slopes)


def _seed(case: Case) -> int:
    return zlib.crc32(case.name.encode())


def _tested(interface: Interface, case: Case, inputs: Inputs) -> dict[str, Any]:
    leaves = [x.detach().clone().requires_grad_(case.backward) for x in (inputs.q, inputs.k, inputs.v)]
    out = forward(interface, case, leaves, inputs.slopes)
    if case.backward:
        backward(out, inputs.grad)
    return _named(out, leaves, case)


def forward(interface: Interface, case: Case, leaves: list[Any], slopes: Any) -> Any:
    """Call the function and wait for its kernels, so that one that never ends is known for the forward's."""
    q, k, v = leaves
    torch.manual_seed(_seed(case))  # the same weights are dropped in every call of the case
    out = call(interface, case, q, k, v, slopes)
    if out.is_cuda:
        torch.cuda.synchronize()
    return out


def backward(out: Any, grad: Any) -> None:
    """Fill the gradients of the leaves and wait for the kernels."""
    out.backward(grad)
    if out.is_cuda:
        torch.cuda.synchronize()


def _named(out: Any, leaves: list[Any], case: Case) -> dict[str, Any]:
    grads = {f"d{name}": leaf.grad for name, leaf in zip("qkv", leaves, strict=True)} if case.backward else {}
    missing = [name for name, grad in grads.items() if grad is None]
    if missing:
        raise RuntimeError(f"no gradient reached {', '.join(missing)}")
    return {"out": out.detach(), **grads}


def by_formula(interface: Interface, case: Case, inputs: Inputs, dtype: Any, keep: Any = None) -> dict[str, Any]:
    """Return output and gradients by the formula in ``dtype``; ``keep`` is a mask over ``(sequences, heads, queries, keys)`` of dropout's."""
    leaves = [x.detach().to(dtype).requires_grad_(case.backward) for x in (inputs.q, inputs.k, inputs.v)]
    rule = Rule(case.causal, case.window, case.softcap, inputs.slopes, interface.align_right, case.scale)
    parts = [x.split([pair[side] for pair in case.lengths]) for x, side in zip(leaves, (0, 1, 1), strict=True)]
    outs = [
        attention(q, k, v, rule, keep=None if keep is None else keep[index], keep_probability=1 - case.dropout)
        for index, (q, k, v) in enumerate(zip(*parts, strict=True))
    ]
    out = torch.cat(outs)
    if case.backward:
        out.backward(inputs.grad.to(dtype))
    return _named(out, leaves, case)


def find_kept(interface: Interface, case: Case, inputs: Inputs) -> Any:
    """Return which weights dropout left: a mask over ``(sequences, heads, queries, keys)`` of a case whose lengths are all equal.

    Values that are a unit matrix at some keys and zero at the others make the output the weights of those keys; the next stretch of keys is
    asked with the same seed, as a recomputation for gradient checkpointing is.
    """
    keys, dim, count = case.lengths[0][1], case.head_dim, len(case.lengths)
    found = []
    for first in range(0, keys, dim):
        unit = torch.zeros(keys, dim, device=inputs.v.device, dtype=inputs.v.dtype)
        width = min(dim, keys - first)
        unit[first : first + width, :width] = torch.eye(width)
        values = unit.repeat(count, 1)[:, None].repeat(1, case.heads[1], 1)
        leaves = [x.detach().clone().requires_grad_(case.backward) for x in (inputs.q, inputs.k, values)]
        weights = forward(interface, case, leaves, inputs.slopes).detach()
        found.append(weights.unflatten(0, (count, -1))[..., :width] != 0)
    return torch.cat(found, -1).transpose(1, 2)


def judge_kept(keep: Any, dropout: float) -> dict[str, Any] | None:
    """Return what is wrong with a dropout mask: too many or few are dropped, or neighbours along one axis share their fate; None when nothing."""
    total, rate = keep.numel(), 1 - float(keep.double().mean())
    limit = SIGMAS * (dropout * (1 - dropout) / total) ** 0.5 + 1 / 256  # kernels compare with a threshold of 8 bits
    if abs(rate - dropout) > limit:
        detail = f"{rate:.4f} of {total} weights dropped, {dropout:g} asked for"
        return {"error": abs(rate - dropout), "limit": limit, "detail": detail}
    chance = rate**2 + (1 - rate) ** 2
    for axis, name in enumerate(("sequences", "heads", "queries", "keys")):
        pairs = keep.shape[axis] // 2
        first, second = (keep.narrow(axis, 0, 2 * pairs).unflatten(axis, (pairs, 2)).select(axis + 1, side) for side in (0, 1))
        alike = float((first == second).double().mean())
        limit = SIGMAS * (chance * (1 - chance) / first.numel()) ** 0.5
        if abs(alike - chance) > limit:
            detail = f"neighbouring {name} drop alike in {alike:.4f} of {first.numel()} weights, by chance {chance:.4f}"
            return {"error": abs(alike - chance), "limit": limit, "detail": detail}
    return None
