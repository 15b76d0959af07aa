"""Run by an interpreter with torch: answers cases of rotary embedding, each against a multiplication of complex numbers in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.adapter.computing import difference, main


def turned(x: Tensor, angle: Tensor, interleaved: bool) -> Tensor:
    """Return one sequence ``(tokens, ..., dim)`` times ``exp(i · angle)``, for ``angle`` ``(tokens, pairs)``."""
    if not len(x):
        return x
    width = 2 * angle.shape[-1]
    pairs = x[..., :width].unflatten(-1, (-1, 2) if interleaved else (2, -1))
    pairs = pairs if interleaved else pairs.transpose(-1, -2)
    by = torch.polar(torch.ones_like(angle), angle).view(len(x), *[1] * (x.ndim - 2), -1)
    found = torch.view_as_real(torch.view_as_complex(pairs.contiguous()) * by)
    found = (found if interleaved else found.transpose(-1, -2)).flatten(-2)
    return torch.cat([found, x[..., width:]], -1)


def emb(case: dict[str, Any]) -> dict[str, Any]:
    """`apply_rotary_emb` and `apply_rotary` over sequences of ``lengths``, packed or (where they are equal) as a batch.

    ``of`` is what is turned in place: a leaf, a result, a piece of an unbind.
    """
    from flash_attn.layers.rotary import apply_rotary_emb
    from flash_attn.ops.triton.rotary import apply_rotary

    torch.manual_seed(case["seed"])
    lengths, interleaved, inplace = case["lengths"], case["interleaved"], case["inplace"]
    longest, shifts = max(lengths), case["offsets"]
    table = torch.rand(longest + max(shifts) + case["spare"], case["pairs"], dtype=torch.float64) * 6
    cos, sin = (part.requires_grad_() for part in (table.cos(), table.sin()))
    leaf = torch.randn(sum(lengths), 3, 2 * case["pairs"] + case["rest"], dtype=torch.float64, requires_grad=True)
    shaped = leaf if case["packed"] else leaf.unflatten(0, (len(lengths), -1))
    x: Tensor = {
        "leaf": shaped.detach().clone().requires_grad_(),
        "result": shaped * 1,
        "unbound": (shaped[None] * 1).unbind()[0],
    }[case["of"]]
    source = x if case["of"] == "leaf" else leaf
    options: dict[str, Any] = {"interleaved": interleaved, "inplace": inplace}
    options["seqlen_offsets"] = shifts[0] if len(set(shifts)) == 1 else torch.tensor(shifts, dtype=torch.int32)
    if case["packed"]:
        options["cu_seqlens"] = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
        options["max_seqlen"] = longest

    def right(y: Tensor, sign: int) -> Tensor:
        parts = y.detach().reshape_as(leaf).split(lengths)
        one = [
            turned(part, sign * table[shift : shift + len(part)], interleaved) for part, shift in zip(parts, shifts, strict=True)
        ]
        return torch.cat(one).reshape_as(y)

    before = x.detach().clone()
    raw = before.clone()
    conjugate = apply_rotary(raw, cos, sin, conjugate=True, **options)
    out = apply_rotary_emb(x, cos, sin, **options)
    grad = torch.randn_like(out)
    kept = grad.clone()
    (found,) = torch.autograd.grad(out, source, grad)
    return {
        "out": difference(out, right(before, 1)),
        "conjugate": difference(conjugate, right(before, -1)),
        "grad": difference(found.reshape_as(grad), right(grad, -1)),
        "written": difference(x, out if inplace else before) + difference(raw, conjugate if inplace else before),
        "untouched": difference(grad, kept),
        "raw": float(conjugate.requires_grad),
    }


def edges(case: dict[str, Any]) -> dict[str, Any]:
    """What upstream's kernel leaves as it is: tokens behind the last sequence, positions behind the tables' end."""
    from flash_attn.ops.triton.rotary import apply_rotary

    x, angle = torch.randn(7, 2, 8, dtype=torch.float64), torch.rand(5, 4, dtype=torch.float64)
    starts, offsets = torch.tensor([0, 2, 2, 5], dtype=torch.int32), torch.tensor([0, 0, 3], dtype=torch.int32)
    found = apply_rotary(x, angle.cos(), angle.sin(), offsets, starts, 3)
    right = torch.cat([turned(x[:2], angle[:2], False), turned(x[2:4], angle[3:], False), x[4:]])
    return {"out": difference(found, right)}


def module(case: dict[str, Any]) -> dict[str, Any]:
    """`RotaryEmbedding` over queries, keys and values in one tensor, grouped, or queries apart; its tables by their definition."""
    from flash_attn.layers.rotary import RotaryEmbedding

    torch.manual_seed(0)
    dtype, shift, dim = getattr(torch, case["dtype"]), case["offset"], 16
    rotary = RotaryEmbedding(case["width"], base=case["base"], interleaved=case["interleaved"]).to(dtype)
    heads = {"qkv": (3, 4), "grouped": (4 + 2 * 2,), "apart": (4,)}[case["form"]]
    leaf, pair = (torch.randn(2, 5, *shape, dim, dtype=dtype, requires_grad=True) for shape in (heads, (2, 4)))
    starts = [shift, shift + 2] if case["each"] else [shift, shift]
    options = {"seqlen_offset": torch.tensor(starts), "max_seqlen": shift + 7} if case["each"] else {"seqlen_offset": shift}
    if case["form"] == "grouped":
        options["num_heads_q"] = 4
    keys = pair * 1 if case["form"] == "apart" else None
    out = rotary(leaf * 1, keys, **options)
    speed = case["base"] ** (-torch.arange(0, case["width"], 2, dtype=torch.float64) / case["width"])
    place = torch.tensor(starts, dtype=torch.float64)[:, None] + torch.arange(5)

    def right(y: Tensor, count: int, sign: int = 1) -> Tensor:
        one = [
            turned(part.double(), sign * at[:, None] * speed, case["interleaved"])
            for part, at in zip(y.detach(), place, strict=True)
        ]
        return torch.cat([torch.stack(one)[:, :, :count], y[:, :, count:]], 2)

    count = {"qkv": 2, "grouped": 6, "apart": 4}[case["form"]]
    checks = [(out if keys is None else out[0], leaf, count), *([] if keys is None else [(out[1], pair, 1)])]
    errors = []
    for found, source, turned_count in checks:
        grad = torch.randn_like(found)
        (back,) = torch.autograd.grad(found, source, grad)
        errors += [difference(found, right(source, turned_count)), difference(back, right(grad, turned_count, -1))]
    return {
        "error": max(errors),
        "tables": float(rotary._cos_cached.dtype is dtype and len(rotary._cos_cached) == max(starts) + 5),
    }


def refused(case: dict[str, Any]) -> dict[str, Any]:
    """The error that a call ends in."""
    from flash_attn.layers import rotary

    table, x, three = torch.ones(4, 4), torch.ones(2, 4, 1, 8), torch.ones(2, 4, 3, 1, 8)
    starts, short = torch.tensor([0, 4], dtype=torch.int32), torch.tensor([0])
    calls: dict[str, Any] = {
        "xpos": lambda: rotary.RotaryEmbedding(8, scale_base=512),
        "positions": lambda: rotary.RotaryEmbedding(8, pos_idx_in_fp32=False),
        "keys": lambda: rotary.apply_rotary_emb_qkv_(three, table, table, table, table),
        "short": lambda: rotary.apply_rotary_emb(x, table, table, seqlen_offsets=1),
        "packed-short": lambda: rotary.apply_rotary_emb(x[0], table, table, cu_seqlens=starts, max_seqlen=5),
        "wide": lambda: rotary.apply_rotary_emb(x[..., :4], table, table),
        "unlike": lambda: rotary.apply_rotary_emb(x, table, table[:3]),
        "longest": lambda: rotary.apply_rotary_emb(x[0], table, table, cu_seqlens=starts),
        "batch": lambda: rotary.apply_rotary_emb(x, table, table, cu_seqlens=starts, max_seqlen=4),
        "offsets": lambda: rotary.apply_rotary_emb(x, table, table, seqlen_offsets=short),
        "floats": lambda: rotary.apply_rotary_emb(x, table, table, seqlen_offsets=torch.zeros(2)),
        "heads": lambda: rotary.apply_rotary_emb_qkv_(x, table, table),
        "pair": lambda: rotary.apply_rotary_emb_kv_(three, table, table),
        "tables": lambda: rotary.RotaryEmbedding(8)(three, seqlen_offset=torch.tensor([0, 0])),
    }
    try:
        calls[case["call"]]()
    except (NotImplementedError, ValueError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


def compiled(case: dict[str, Any]) -> dict[str, Any]:
    """A compiled function that turns packed tokens, without graph breaks, against the same function as it is."""
    from flash_attn.layers.rotary import apply_rotary_emb

    x = torch.randn(6, 2, 8, dtype=torch.float64, requires_grad=True)
    angle, starts = torch.rand(4, 4, dtype=torch.float64), torch.tensor([0, 4, 6], dtype=torch.int32)

    def layer(x: Tensor) -> Tensor:
        return apply_rotary_emb(x * 2, angle.cos(), angle.sin(), inplace=case["inplace"], cu_seqlens=starts, max_seqlen=4).sin()

    fast = torch.compile(layer, backend="aot_eager", fullgraph=True)
    (found,), (right,) = (torch.autograd.grad(run(x).sum(), x) for run in (fast, layer))
    return {"out": difference(fast(x), layer(x)), "grad": difference(found, right)}


KINDS = {function.__name__: function for function in (emb, edges, module, refused, compiled)}

if __name__ == "__main__":
    main(KINDS)
