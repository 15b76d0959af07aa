"""One case: make inputs, call the function under test, and measure it against float64 and against plain attention."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import torch

from provisioner.verifying.child.cases import Case
from provisioner.verifying.child.interfaces import Interface, call
from provisioner.verifying.child.reference import Rule, attention, compare, positions, visible

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


def measure(interface: Interface, case: Case, device: str) -> dict[str, Any]:
    """Return ``error``, ``limit`` and ``detail`` of a case; raises whatever the function under test raises."""
    inputs = make_inputs(case, device)
    if case.call == "kvcache":
        return _measure_cache(interface, case, inputs)
    results = _tested(interface, case, inputs)
    keep, rate = (None, None) if not case.dropout else _kept(interface, case, results["out"])
    if rate is not None and rate["error"] > rate["limit"]:
        return rate
    exact = _by_formula(interface, case, inputs, torch.float64, keep)
    plain = _by_formula(interface, case, inputs, inputs.q.dtype, keep)
    return compare(results, exact, plain)


def make_inputs(case: Case, device: str) -> Inputs:
    """Return the inputs of a case, the same in every run: the seed is its name.

    With dropout the values are the identity, so that the output *is* the matrix of weights and shows which were dropped.
    """
    dtype = DTYPES[case.dtype]
    maker = torch.Generator(device="cpu").manual_seed(zlib.crc32(case.name.encode()))

    def normal(tokens: int, heads: int, scale: float = 1.0) -> Any:
        values = torch.randn(tokens, heads, case.head_dim, generator=maker) * scale
        return values.to(device=device, dtype=dtype)

    queries, keys = (sum(pair[side] for pair in case.lengths) for side in (0, 1))
    q = normal(queries, case.heads[0], 1.0 if case.dropout else SCORE_SCALE)
    k, v = normal(keys, case.heads[1]), normal(keys, case.heads[1])
    if case.dropout and case.refused is None:
        v = torch.eye(case.head_dim, device=device, dtype=dtype).repeat(len(case.lengths), 1)
        v = v[:, None, :].repeat(1, case.heads[1], 1)
    slopes = torch.logspace(-1, -6, case.heads[0], base=2, device=device) if case.alibi else None
    return Inputs(q, k, v, normal(queries, case.heads[0]), slopes)


def _tested(interface: Interface, case: Case, inputs: Inputs) -> dict[str, Any]:
    leaves = [x.detach().clone().requires_grad_(case.backward) for x in (inputs.q, inputs.k, inputs.v)]
    out = forward(interface, case, leaves, inputs.slopes)
    if case.backward:
        backward(out, inputs.grad)
    return _named(out, leaves, case)


def forward(interface: Interface, case: Case, leaves: list[Any], slopes: Any) -> Any:
    """Call the function and wait for its kernels, so that one that never ends is known for the forward's."""
    q, k, v = leaves
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


def _by_formula(interface: Interface, case: Case, inputs: Inputs, dtype: Any, keep: list[Any] | None) -> dict[str, Any]:
    leaves = [x.detach().to(dtype).requires_grad_(case.backward) for x in (inputs.q, inputs.k, inputs.v)]
    rule = _rule(interface, case, inputs)
    parts = [x.split([pair[side] for pair in case.lengths]) for x, side in zip(leaves, (0, 1, 1), strict=True)]
    outs = [
        attention(q, k, v, rule, keep=keep[index] if keep else None, keep_probability=1 - case.dropout)
        for index, (q, k, v) in enumerate(zip(*parts, strict=True))
    ]
    out = torch.cat(outs)
    if case.backward:
        out.backward(inputs.grad.to(dtype))
    return _named(out, leaves, case)


def _rule(interface: Interface, case: Case, inputs: Inputs) -> Rule:
    return Rule(case.causal, case.window, case.softcap, inputs.slopes, interface.align_right)


def _kept(interface: Interface, case: Case, out: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return which weights each sequence kept, and how far the rate of the dropped ones is from what was asked."""
    rule = Rule(case.causal, case.window, align_right=interface.align_right)
    masks, dropped, total = [], 0, 0
    for part, (queries, keys) in zip(out.split([pair[0] for pair in case.lengths]), case.lengths, strict=True):
        kept = (part != 0).permute(1, 0, 2)
        seen = visible(positions(queries, keys, rule, out.device), rule).expand_as(kept)
        masks.append(kept)
        dropped += int((seen & ~kept).sum())
        total += int(seen.sum())
    rate = dropped / total
    limit = SIGMAS * (case.dropout * (1 - case.dropout) / total) ** 0.5 + 1 / 256
    detail = f"{rate:.4f} of {total} weights dropped, {case.dropout:g} asked for"
    return masks, {"error": abs(rate - case.dropout), "limit": limit, "detail": detail}


def _measure_cache(interface: Interface, case: Case, inputs: Inputs) -> dict[str, Any]:
    """Append the last keys of each sequence to a cache that holds the others, and compare output and cache."""
    new = case.lengths[0][0]
    ks, vs = (x.split([pair[1] for pair in case.lengths]) for x in (inputs.k, inputs.v))
    caches = [_cache(parts, new) for parts in (ks, vs)]
    fresh = [torch.stack([part[-new:] for part in parts]) for parts in (ks, vs)]
    held = torch.tensor([pair[1] - new for pair in case.lengths], dtype=torch.int32, device=inputs.q.device)
    options: dict[str, Any] = {"causal": case.causal, "cache_seqlens": held}
    if case.splits:
        options["num_splits"] = case.splits
    stored = caches
    if case.paged:
        caches, table = _paged(caches)
        options["page_table" if interface.generation == 3 else "block_table"] = table
    q = inputs.q.reshape(len(case.lengths), new, *inputs.q.shape[1:])
    out = interface.functions["kvcache"](q, *caches, *fresh, **options).reshape(inputs.q.shape)
    exact = _by_formula(interface, case, inputs, torch.float64, None)
    plain = _by_formula(interface, case, inputs, inputs.q.dtype, None)
    if case.paged:
        stored = [pages[table.long()].flatten(1, 2) for pages in caches]
    for cache, parts, name in zip(stored, (ks, vs), ("k_cache", "v_cache"), strict=True):
        for row, part in zip(cache, parts, strict=True):
            if not torch.equal(row[: len(part)], part):
                return {"error": None, "limit": None, "detail": f"{name} does not hold the appended tokens"}
    return compare({"out": out}, exact, plain)


def _cache(parts: Any, new: int) -> Any:
    """Return a cache with everything but each sequence's last ``new`` tokens; unused places hold values that would show."""
    cache = torch.full((len(parts), 512, *parts[0].shape[1:]), 9.0, dtype=parts[0].dtype, device=parts[0].device)
    for row, part in zip(cache, parts, strict=True):
        row[: len(part) - new] = part[:-new]
    return cache


def _paged(caches: list[Any]) -> tuple[list[Any], Any]:
    """Return the caches as pages of 256 tokens in reversed order, and the table that finds them."""
    pages = [cache.reshape(-1, 256, *cache.shape[2:]).flip(0).contiguous() for cache in caches]
    count = pages[0].shape[0]
    table = torch.arange(count - 1, -1, -1, dtype=torch.int32, device=pages[0].device).reshape(len(caches[0]), -1)
    return pages, table
