"""Run by an interpreter with torch: answers cases (one JSON object a line) computed by the adapter against float64 attention.

PyTorch's attention kernels exist for CUDA alone, so their two operators get a CPU stand-in here that computes what their masks,
windows, packing and log-sum-exp mean, by definition; everything above them is the adapter's own code. With ``"device": "cuda"`` and a
``dtype`` in a case the real kernels answer it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

INFINITY = float("inf")
SPLITS: list[int | None] = []
"""What the stand-in's backward was told of splitting keys: 1 where additions must have one order."""


def visible_to_kernels(queries: int, keys: int, kind: int, window: int | None) -> Tensor:
    """The mask of ``aten::_efficient_attention_forward``: a triangle from the top left (1) or bottom right (2), a window below it."""
    i, j = torch.arange(queries)[:, None], torch.arange(keys)[None]
    diagonal = i + (keys - queries if kind == 2 else 0)
    seen = torch.ones(queries, keys, dtype=torch.bool) if kind == 0 else j <= diagonal
    return seen & (j > diagonal - window) if window else seen


def visible_backward(queries: int, keys: int, kind: int, window: int | None) -> Tensor:
    """The mask of the backward operator: its window lies from the top left, whatever the triangle."""
    i, j = torch.arange(queries)[:, None], torch.arange(keys)[None]
    seen = visible_to_kernels(queries, keys, kind, None)
    return seen & (j > i - window) if window else seen


def pieces(q: Tensor, k: Tensor, starts_q: Tensor | None, starts_k: Tensor | None) -> list[tuple[int, slice, slice]]:
    if starts_q is None or starts_k is None:
        return [(batch, slice(0, q.shape[1]), slice(0, k.shape[1])) for batch in range(q.shape[0])]
    a, b = starts_q.tolist(), starts_k.tolist()
    return [(0, slice(*one), slice(*two)) for one, two in zip(zip(a, a[1:]), zip(b, b[1:]), strict=True)]


def kept(seed: int, shape: tuple[int, ...], dropout: float, number: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + number)
    return (torch.rand(shape, generator=generator, dtype=torch.float64) >= dropout) / (1 - dropout)


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int | None,
    max_seqlen_k: int | None,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
    seqlen_k: Tensor | None = None,
    window_size: int | None = None,
) -> Any:
    assert query.shape[2] == key.shape[2], "the operator knows no grouped heads"
    assert bias is None and seqlen_k is None and scale is not None and compute_log_sumexp
    for x in (query, key, value):
        assert x.stride(-1) == 1 and x.shape[-1] % 8 == 0 and x.stride(1) % 8 == 0, "of one token too: kernel_forward.h"
        assert all(x.shape[dim] == 1 or x.stride(dim) % 8 == 0 for dim in (0, 2))
    parts = pieces(query, key, cu_seqlens_q, cu_seqlens_k)
    longest = max_seqlen_q if cu_seqlens_q is not None else query.shape[1]
    assert longest is not None and all(rows.stop - rows.start <= longest for _, rows, _ in parts)
    out = torch.full_like(query, torch.nan)
    lse = torch.full((len(parts), query.shape[2], -(-longest // 32) * 32), torch.nan, dtype=torch.float64)
    seed = int(torch.randint(2**31, ()))
    for number, (batch, rows, keys) in enumerate(parts):
        score = torch.einsum("ihd,jhd->hij", query[batch, rows], key[batch, keys]) * scale
        seen = visible_to_kernels(score.shape[1], score.shape[2], custom_mask_type, window_size)
        score = score.masked_fill(~seen, -INFINITY)
        lse[number, :, : score.shape[1]] = score.logsumexp(-1)
        drop = kept(seed, tuple(score.shape), dropout_p, number) if dropout_p else 1.0
        out[batch, rows] = torch.einsum("hij,jhd->ihd", score.softmax(-1) * drop, value[batch, keys])
    return out, lse, torch.tensor(seed), torch.tensor(0), longest, max_seqlen_k


def backward(
    grad_out_: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    out: Tensor,
    cu_seqlens_q: Tensor | None,
    cu_seqlens_k: Tensor | None,
    max_seqlen_q: int,
    max_seqlen_k: int,
    logsumexp: Tensor,
    dropout_p: float,
    philox_seed: Tensor,
    philox_offset: Tensor,
    custom_mask_type: int,
    bias_requires_grad: bool,
    *,
    scale: float | None = None,
    num_splits_key: int | None = None,
    window_size: int | None = None,
    shared_storage_dqdkdv: bool = False,
) -> Any:
    assert max_seqlen_k <= key.shape[1] and max_seqlen_q <= query.shape[1], "the operator checks this"
    assert logsumexp.shape[-1] % 8 == 0 and not logsumexp.isnan().any()
    SPLITS.append(num_splits_key)
    dq, dk, dv = (torch.full_like(x, torch.nan) for x in (query, key, value))
    for number, (batch, rows, keys) in enumerate(pieces(query, key, cu_seqlens_q, cu_seqlens_k)):
        tensors = (query[batch, rows], key[batch, keys], value[batch, keys], grad_out_[batch, rows], out[batch, rows])
        q, k, v, grad, result = (x.double() for x in tensors)
        if not len(q):  # no kernel promises to write gradients of keys without queries
            continue
        assert logsumexp[number, :, len(q) :].isposinf().all(), "the kernels read these rows: their probabilities must be 0"
        seen = visible_backward(len(q), len(k), custom_mask_type, window_size)
        score = (torch.einsum("ihd,jhd->hij", q, k) * scale).masked_fill(~seen, -INFINITY)
        share = (score - logsumexp[number, :, : len(q), None]).exp()
        drop = kept(int(philox_seed), tuple(score.shape), dropout_p, number) if dropout_p else 1.0
        dp = torch.einsum("ihd,jhd->hij", grad, v) * drop
        ds = share * (dp - (grad * result).sum(-1).T[:, :, None]) * scale
        dv[batch, keys] = torch.einsum("hij,ihd->jhd", share * drop, grad)
        dq[batch, rows], dk[batch, keys] = torch.einsum("hij,jhd->ihd", ds, k), torch.einsum("hij,ihd->jhd", ds, q)
    return dq, dk, dv, torch.empty(0)


def expected(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, window: list[int], scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """Attention of one sequence ``(tokens, heads, dim)`` as flash-attn 2.1 and later define it, and its log-sum-exp."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    shift = k.shape[0] - q.shape[0]
    i, j = torch.arange(q.shape[0], device=q.device)[:, None] + shift, torch.arange(k.shape[0], device=q.device)[None]
    left, right = window[0], 0 if causal else window[1]
    seen = torch.ones(q.shape[0], k.shape[0], dtype=torch.bool, device=q.device)
    seen = seen & (j >= i - left) if left >= 0 else seen
    seen = seen & (j <= i + right) if right >= 0 else seen
    score = torch.einsum("ihd,jhd->hij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    score = score.masked_fill(~seen, -INFINITY)
    alive = seen.any(-1)
    share = torch.where(alive[:, None], score.masked_fill(~alive[:, None], 0.0).softmax(-1), 0.0)
    lse = torch.where(alive, score.masked_fill(~alive[:, None], 0.0).logsumexp(-1), INFINITY)
    return torch.einsum("hij,jhd->ihd", share, v), lse


def difference(found: Tensor, right: Tensor) -> float:
    """The largest difference, relative to the largest right value where that is above 1; infinity for other shapes, infinities or NaN."""
    found, right = found.detach().double().cpu(), right.detach().double().cpu()
    finite = right.isfinite()
    if found.shape != right.shape or not torch.equal(found[~finite], right[~finite]) or not bool(found[finite].isfinite().all()):
        return INFINITY
    if not bool(finite.any()):
        return 0.0
    return float((found - right)[finite].abs().max() / right[finite].abs().max().clamp(min=1.0))


def random(case: dict[str, Any], *shape: int) -> Tensor:
    device, dtype = case.get("device", "cpu"), getattr(torch, case.get("dtype", "float64"))
    return torch.randn(*shape, dtype=torch.float64).to(dtype).to(device)


def inputs(case: dict[str, Any]) -> list[Tensor]:
    """Packed random inputs; with ``strided`` they are slices of wider tensors, as a fused projection leaves them."""
    torch.manual_seed(case.get("seed", 0))
    heads, key_heads = case["heads"]
    total_q, total_k = (sum(pair[side] for pair in case["lengths"]) for side in (0, 1))
    dim, wide = case["dim"], case.get("strided", 0)
    shapes = ((total_q, heads), (total_k, key_heads), (total_k, key_heads))
    return [random(case, total, count, dim + wide)[..., :dim].detach().requires_grad_() for total, count in shapes]


def exact(tensors: list[Tensor]) -> list[Tensor]:
    return [x.detach().double().requires_grad_() for x in tensors]


def starts(case: dict[str, Any], side: int) -> Tensor:
    begins = torch.tensor([0, *(pair[side] for pair in case["lengths"])]).cumsum(0).to(torch.int32)
    return begins.to(case.get("device", "cpu"))


def call(case: dict[str, Any], q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Output ``(tokens, heads, dim)`` and log-sum-exp ``(heads, tokens)`` of the adapter."""
    import flash_attn

    options |= {"causal": case["causal"], "window_size": tuple(case["window"]), "deterministic": case.get("deterministic", False)}
    if case.get("scale") is not None:
        options["softmax_scale"] = case["scale"]
    if case["call"] == "varlen":
        starts_q, starts_k = starts(case, 0), starts(case, 1)
        starts_k = starts_q if case.get("shared") else starts_k
        longest = [max(pair[side] for pair in case["lengths"]) for side in (0, 1)]
        result = flash_attn.flash_attn_varlen_func(q, k, v, starts_q, starts_k, *longest, **options)
        return result[:2] if isinstance(result, tuple) else (result, result)
    batched = (x.unflatten(0, (len(case["lengths"]), -1)) for x in (q, k, v))
    result = flash_attn.flash_attn_func(*batched, **options)
    out, lse = result[:2] if isinstance(result, tuple) else (result, result)
    return out.flatten(0, 1), lse.transpose(0, 1).flatten(1)


def attention(case: dict[str, Any]) -> dict[str, Any]:
    """Output, log-sum-exp and gradients of one call against the definition."""
    given = inputs(case)
    out, lse = call(case, *given, return_attn_probs=True)
    q, k, v = exact(given)
    options = {"causal": case["causal"], "window": case["window"], "scale": case.get("scale")}
    places = pieces(q[None], k[None], starts(case, 0), starts(case, 1))
    parts = [expected(q[rows], k[keys], v[keys], **options) for _, rows, keys in places]
    right_out, right_lse = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts], 1)
    answer: dict[str, Any] = {"out": difference(out, right_out), "lse": difference(lse, right_lse)}
    if case.get("backward", True):
        grad = torch.randn_like(out)
        found = torch.autograd.grad(out, given, grad)
        right = torch.autograd.grad(right_out, (q, k, v), grad.double())
        answer["grads"] = [difference(a, b) for a, b in zip(found, right, strict=True)]
        if case.get("deterministic"):
            again = torch.autograd.grad(call(case, *given)[0], given, grad)
            answer["same"] = all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
            answer["splits"] = SPLITS[-2:]
    return answer


def dropout(case: dict[str, Any]) -> dict[str, Any]:
    """Output and gradients with dropout, against the definition with the pattern that was really drawn.

    The pattern shows in the output when the values are unit vectors, so there are as many keys as head dims, and no mask.
    """
    q, k, v = inputs(case)
    rate, places = case["dropout"], pieces(q[None], k[None], starts(case, 0), starts(case, 1))

    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        torch.manual_seed(7)
        return call(case, q, k, v, dropout_p=rate)[0]

    units = torch.eye(case["dim"], dtype=v.dtype, device=v.device)[:, None].expand(-1, v.shape[1], -1)
    pattern = run(q, k, torch.cat([units] * len(places))) != 0
    out = run(q, k, v)
    exact_q, exact_k, exact_v = exact([q, k, v])
    rights = []
    for _, rows, keys in places:
        group = q.shape[1] // k.shape[1]
        one_k, one_v = (x[keys].repeat_interleave(group, 1) for x in (exact_k, exact_v))
        share = (torch.einsum("ihd,jhd->hij", exact_q[rows], one_k) * q.shape[-1] ** -0.5).softmax(-1)
        rights.append(torch.einsum("hij,jhd->ihd", share * pattern[rows].transpose(0, 1) / (1 - rate), one_v))
    right = torch.cat(rights)
    grad = torch.randn_like(out)
    found = torch.autograd.grad(out, (q, k, v), grad)
    wanted = torch.autograd.grad(right, (exact_q, exact_k, exact_v), grad.double())
    return {
        "out": difference(out, right),
        "grads": [difference(a, b) for a, b in zip(found, wanted, strict=True)],
        "dropped": 1 - float(pattern.double().mean()),
    }


def kvcache(case: dict[str, Any]) -> dict[str, Any]:
    """Decoding over a cache against the definition: the output, and what lies in the cache afterwards."""
    import flash_attn

    torch.manual_seed(case.get("seed", 0))
    batch, new, room, dim = len(case["filled"]), case["new"], case["room"], case["dim"]
    heads, key_heads = case["heads"]
    rows = case.get("rows") or list(range(batch))
    spare = 0 if case.get("page") else case.get("spare", 0)
    cache = [random(case, max(rows) + 1 + spare, room, key_heads, dim) for _ in range(2)]
    q = random(case, batch, case["queries"], heads, dim)
    k, v = (random(case, batch, new, key_heads, dim) for _ in range(2)) if new else (None, None)
    device = q.device
    filled, leftpad = torch.tensor(case["filled"], dtype=torch.int32, device=device), case.get("leftpad")
    pages, table = [x.clone() for x in cache], None
    if case.get("page"):
        order = torch.randperm(batch * (room // case["page"]), device=device)
        table = order.view(batch, -1).to(torch.int32)
        pages = [torch.empty_like(x).view(-1, case["page"], key_heads, dim) for x in cache]
        for page, x in zip(pages, cache, strict=True):
            page[order] = x.view(-1, case["page"], key_heads, dim)
    options: dict[str, Any] = {"causal": case["causal"], "window_size": tuple(case["window"]), "block_table": table}
    angle = torch.rand(room + 64, case.get("rotary", 0) // 2, dtype=torch.float64, device=device) * 6
    if case.get("rotary"):
        options |= {
            "rotary_cos": angle.cos().to(q.dtype),
            "rotary_sin": angle.sin().to(q.dtype),
            "rotary_interleaved": case["interleaved"],
        }
    out, lse = flash_attn.flash_attn_with_kvcache(
        q,
        *pages,
        k,
        v,
        cache_seqlens=filled,
        cache_batch_idx=torch.tensor(rows, dtype=torch.int32, device=device) if case.get("rows") else None,
        cache_leftpad=torch.tensor(leftpad, dtype=torch.int32, device=device) if leftpad else None,
        num_splits=case.get("splits", 0),
        return_softmax_lse=True,
        **options,
    )
    errors = []
    moves = case["causal"] or case["window"] != [-1, -1]
    for index, row in enumerate(rows):
        end, begin = case["filled"][index], leftpad[index] if leftpad else 0
        keys, values, one = cache[0][row].double(), cache[1][row].double(), q[index].double()
        if k is not None and v is not None:
            keys[end : end + new], values[end : end + new] = turn(k[index].double(), angle, end, True, case), v[index].double()
            one = turn(one, angle, end, moves, case)
        part = slice(begin, end + new)
        right, right_lse = expected(one, keys[part], values[part], causal=case["causal"], window=case["window"])
        stored = [page[table[index].long()].flatten(0, 1) if table is not None else page[row] for page in pages]
        errors += [difference(out[index], right), difference(lse[index], right_lse)]
        errors += [difference(stored[0], keys), difference(stored[1], values)]
    return {"errors": errors}


def turn(x: Tensor, angle: Tensor, begin: int, moves: bool, case: dict[str, Any]) -> Tensor:
    """Rotary embedding by complex numbers."""
    width = case.get("rotary", 0)
    if not width:
        return x
    place = begin + (torch.arange(len(x), device=x.device) if moves else torch.zeros(len(x), dtype=torch.long, device=x.device))
    part = x[..., :width]
    pairs = part.unflatten(-1, (-1, 2)) if case["interleaved"] else part.unflatten(-1, (2, -1)).transpose(-1, -2)
    turned = torch.view_as_real(
        torch.view_as_complex(pairs.contiguous()) * torch.polar(torch.ones_like(angle), angle)[place][:, None]
    )
    flat = turned.flatten(-2) if case["interleaved"] else turned.transpose(-1, -2).flatten(-2)
    return torch.cat([flat, x[..., width:]], -1)


def packed_cache(case: dict[str, Any]) -> dict[str, Any]:
    """Packed queries over keys of which only some are used, in one piece or in pages: `flash_attn_gpu.varlen_fwd`, by its positions."""
    from flash_attn.flash_attn_interface import flash_attn_gpu

    q, k, v = (x.detach() for x in inputs(case))
    begins, used, skipped, page = (starts(case, 0), starts(case, 1)), case.get("used"), case.get("skipped"), case.get("page")
    places = pieces(q[None], k[None], *begins)
    keys, values, table = k, v, None
    if page:
        most = max(1, *(-(-(one.stop - one.start) // page) for _, _, one in places))
        table = torch.randperm(len(places) * most).view(-1, most).to(torch.int32)
        keys, values = (torch.full((table.numel(), page, *k.shape[1:]), 7.0, dtype=k.dtype) for _ in range(2))
        for (_, _, one), row in zip(places, table.tolist(), strict=True):
            for offset in range(one.stop - one.start):
                keys[row[offset // page], offset % page] = k[one.start + offset]
                values[row[offset // page], offset % page] = v[one.start + offset]
    longest = [max(pair[side] for pair in case["lengths"]) for side in (0, 1)]
    lengths, lead = (torch.tensor(one, dtype=torch.int32) if one else None for one in (used, skipped))
    out = torch.full_like(q, torch.nan)
    tensors = (q, keys, values, out, *begins, lengths, lead, table, None)
    options = (*longest, 0.0, case["dim"] ** -0.5, False, case["causal"], *case["window"], 0.0, False, None)
    found, lse, _, _ = flash_attn_gpu.varlen_fwd(*tensors, *options)
    parts = []
    for index, (_, rows, one) in enumerate(places):
        first = one.start + (skipped[index] if skipped else 0)
        last = one.start + used[index] if used else one.stop
        seen = slice(first, max(first, last))
        parts.append(expected(q[rows], k[seen], v[seen], causal=case["causal"], window=case["window"]))
    return {
        "out": difference(found, torch.cat([part[0] for part in parts])),
        "lse": difference(lse, torch.cat([part[1] for part in parts], 1)),
        "into": difference(out, found),
    }


def padding(case: dict[str, Any]) -> dict[str, Any]:
    """What bert_padding does, against plain loops."""
    from flash_attn import bert_padding

    torch.manual_seed(case.get("seed", 0))
    mask = torch.tensor(case["mask"])
    x = torch.randn(*mask.shape, 3, dtype=torch.float64, requires_grad=True)
    tokens, indices, begins, longest, used = bert_padding.unpad_input(x, mask)
    wanted = [(b, s) for b in range(mask.shape[0]) for s in range(mask.shape[1]) if mask[b, s]]
    back = bert_padding.pad_input(tokens, indices, *mask.shape)
    spare = 1 - mask  # tokens that are allocated and not used: all are kept, only the lengths leave them out
    both = bert_padding.unpad_input(x, mask, spare)
    grad = torch.randn_like(back)
    (found,) = torch.autograd.grad(back, x, grad)
    return {
        "tokens": tokens.tolist() == [x[place].tolist() for place in wanted],
        "starts": begins.tolist() == [0, *mask.sum(1).cumsum(0).tolist()] and begins.dtype is torch.int32,
        "longest": longest == int(mask.sum(1).max()) and used.tolist() == mask.sum(1).tolist(),
        "back": torch.equal(back, x * mask[..., None]),
        "unused": torch.equal(both[0], x.flatten(0, 1)) and both[3] == mask.shape[1] and torch.equal(both[4], used),
        "grads": torch.equal(found, grad * mask[..., None]),
    }


def refused(case: dict[str, Any]) -> dict[str, Any]:
    """The error that a call ends in: of one sequence, or packed where ``starts`` of queries and keys are given."""
    import flash_attn

    packed = [x.detach() for x in inputs(case)]
    options = {**case["options"], **({"alibi_slopes": torch.ones(case["heads"][0])} if case.get("alibi") else {})}
    try:
        if starts := case.get("starts"):
            begins = [torch.tensor(one, dtype=getattr(torch, case.get("starts_dtype", "int32"))) for one in starts]
            flash_attn.flash_attn_varlen_func(*packed, *begins, 4, 4, **options)
        else:
            shape = case.get("batches", [1, 1])
            q, k, v = (x.unflatten(0, (batch, -1)) if batch else x for x, batch in zip(packed, [*shape, shape[1]], strict=True))
            flash_attn.flash_attn_func(q, k, v, **options)
    except (NotImplementedError, RuntimeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return {"error": None}


def chosen(case: dict[str, Any]) -> dict[str, Any]:
    """The kernel set that a problem is given to on a device of ``capability``."""
    from flash_attn import _aten, _turing109
    from flash_attn._masks import Triangle
    from flash_attn._problem import Packing, Problem, choose

    _turing109.archs = lambda: tuple(case["archs"])
    fields = dict(case["problem"])
    empty = torch.empty(0, dtype=torch.int32)
    fields["packing"] = Packing(empty, empty, 1, 1) if fields.pop("packed", False) else None
    fields["triangle"] = Triangle(fields.get("triangle", 0))
    problem = Problem(dtype=getattr(torch, fields.pop("dtype")), capability=tuple(fields.pop("capability")), scale=1.0, **fields)
    try:
        return {"set": choose(problem, (_turing109, _aten) if case["archs"] else (_aten,)).NAME}
    except NotImplementedError as error:
        return {"error": str(error)}


def compiled(case: dict[str, Any]) -> dict[str, Any]:
    """A compiled function with an attention inside, without graph breaks, against the same function as it is."""
    import flash_attn

    q, k, v = (x.unflatten(0, (len(case["lengths"]), -1)) for x in inputs(case))

    window: Any = tuple(case["window"])
    starts = [torch.arange(len(x) + 1, dtype=torch.int32) * x.shape[1] for x in (q, k)]

    def layer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if not case.get("packed"):
            return flash_attn.flash_attn_func(q * 2, k, v, causal=True, window_size=window).sin()
        flat = (x.flatten(0, 1) for x in (q * 2, k, v))
        longest = (q.shape[1], k.shape[1])
        return flash_attn.flash_attn_varlen_func(*flat, *starts, *longest, causal=True, window_size=window).sin().view_as(q)

    fast = torch.compile(layer, backend=case.get("backend", "aot_eager"), fullgraph=True)
    grad = torch.randn_like(q)
    found, right = fast(q, k, v), layer(q, k, v)
    pairs = zip(torch.autograd.grad(found, (q, k, v), grad), torch.autograd.grad(right, (q, k, v), grad), strict=True)
    return {"out": difference(found, right), "grads": [difference(a, b) for a, b in pairs]}


KINDS = {
    function.__name__: function
    for function in (attention, dropout, kvcache, packed_cache, padding, refused, chosen, compiled)
}  # fmt: skip


KEPT: list[Any] = []
"""Libraries of operators: their registrations end with them."""


def prepare() -> None:
    """Give the operators a CPU kernel, unless they have one."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_efficient_attention_forward", "CPU"):
        library = torch.library.Library("aten", "IMPL")
        KEPT.append(library)
        library.impl("_efficient_attention_forward", forward, "CPU")
        library.impl("_efficient_attention_backward", backward, "CPU")


def main(kinds: dict[str, Any]) -> None:
    prepare()
    sys.path.insert(0, str(Path(sys.argv[1])))
    torch.set_num_threads(1)
    for line in sys.stdin:
        case = json.loads(line)
        print(json.dumps(kinds[case.pop("kind")](case)), flush=True)


if __name__ == "__main__":
    main(KINDS)
