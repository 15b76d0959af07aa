"""One case of the key/value cache: tokens are appended to what it holds, and output and cache are both looked at.

What the variants mean was read in flash_attn_interface.py, flash_api.cpp and block_info.h of 2.8.3.post2 (2026-11-27): new keys are written
behind ``cache_seqlens`` places, left padding counted in; rotary embedding turns new keys and queries by their places, not what is held.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from provisioner.verifying.child.cases import Case
from provisioner.verifying.child.interfaces import Interface
from provisioner.verifying.child.numerics import Inputs, by_formula
from provisioner.verifying.child.reference import compare, distance, floor

LENGTH, PAGE = 512, 256
"""Places of a sequence, and of a page: 256 is the least that flash-attn 2 takes."""

FILLER = 9.0
"""The value of unused places: a key or value of that size that is read by mistake shows."""

ROWS, LEFT = (3, 1), (13, 70)
"""Rows of a larger cache, and places skipped at the left, where a case asks for these."""


@dataclass(frozen=True)
class Cache:
    """Keys or values ``(rows, LENGTH, heads, head dim)``, and where each sequence of the batch lies: its row and its first place."""

    values: Any
    rows: tuple[int, ...]
    lefts: tuple[int, ...]

    @classmethod
    def holding(cls, parts: Any, case: Case) -> Cache:
        """Return a cache with all tokens of each sequence but the last, which are to be appended."""
        rows = ROWS if case.cache == "rows" else tuple(range(len(parts)))
        lefts = LEFT if case.cache == "leftpad" else (0,) * len(parts)
        values = torch.full((max(rows) + 1, LENGTH, *parts[0].shape[1:]), FILLER, dtype=parts[0].dtype, device=parts[0].device)
        for row, left, part, (new, _) in zip(rows, lefts, parts, case.lengths, strict=True):
            values[row, left : left + len(part) - new] = part[:-new]
        return cls(values, rows, lefts)

    def fault(self, after: Any, exact: Any, new: int, allowed: float) -> str:
        """Say what is wrong with ``after``, the cache once ``new`` tokens of each sequence of ``exact`` were appended; empty when nothing."""
        rest = after.clone()
        for row, left, part in zip(self.rows, self.lefts, exact, strict=True):
            place = slice(left + len(part) - new, left + len(part))
            if distance(after[row, place], part[-new:]) > allowed:
                return "does not hold the appended tokens"
            rest[row, place] = self.values[row, place]
        return "" if torch.equal(rest, self.values) else "changed where nothing was appended"


def measure_cache(interface: Interface, case: Case, inputs: Inputs) -> dict[str, Any]:
    """Return ``error``, ``limit`` and ``detail``; ``error`` is None where the cache is not as it must be. Raises what the function raises."""
    new, lengths = case.lengths[0][0], [pair[1] for pair in case.lengths]
    parts = {"k_cache": inputs.k.split(lengths), "v_cache": inputs.v.split(lengths)}
    before = {name: Cache.holding(part, case) for name, part in parts.items()}
    stored = {name: cache.values.clone() for name, cache in before.items()}
    table = None
    if case.cache == "paged":
        paged = [_pages(values, len(lengths)) for values in stored.values()]
        stored, table = dict(zip(stored, (pages for pages, _ in paged), strict=True)), paged[0][1]
    fresh = [torch.stack([part[-new:] for part in each]) for each in parts.values()]
    q = inputs.q.reshape(len(lengths), new, *inputs.q.shape[1:])
    options = _options(interface, case, inputs, before["k_cache"], table)
    out = interface.functions["kvcache"](q, *stored.values(), *fresh, **options)
    out = (out[0] if isinstance(out, tuple) else out).reshape(inputs.q.shape)
    exact, plain = (_turned(case, inputs, dtype) for dtype in (torch.float64, inputs.q.dtype))
    turned = case.cache.startswith("rotary")
    for name, packed, allowed in (("k_cache", exact.k, 2 * floor(out.dtype) if turned else 0.0), ("v_cache", exact.v, 0.0)):
        after = stored[name] if table is None else stored[name][table.long()].flatten(1, 2)
        if fault := before[name].fault(after, packed.split(lengths), new, allowed):
            return {"error": None, "limit": None, "detail": f"{name} {fault}"}
    right = (by_formula(interface, case, each, each.q.dtype) for each in (exact, plain))
    return compare({"out": out}, *right)


def _options(interface: Interface, case: Case, inputs: Inputs, cache: Cache, table: Any) -> dict[str, Any]:
    def integers(values: Any) -> Any:
        return torch.tensor(values, dtype=torch.int32, device=inputs.q.device)

    held = [left + pair[1] - pair[0] for left, pair in zip(cache.lefts, case.lengths, strict=True)]
    options: dict[str, Any] = {"causal": case.causal, "cache_seqlens": integers(held)}
    if case.splits:
        options["num_splits"] = case.splits
    match case.cache:
        case "paged":
            options["page_table" if interface.generation == 3 else "block_table"] = table
        case "rotary" | "rotary-halves":
            options["rotary_cos"], options["rotary_sin"] = _angles(inputs.q)
            options["rotary_interleaved"] = case.cache == "rotary"
        case "leftpad":
            options["cache_leftpad"] = integers(cache.lefts)
        case "rows":
            options["cache_batch_idx"] = integers(cache.rows)
    return options


def _pages(values: Any, count: int) -> tuple[Any, Any]:
    """Return the cache as pages in reversed order, and the table that finds them."""
    pages = values.reshape(-1, PAGE, *values.shape[2:]).flip(0).contiguous()
    table = torch.arange(len(pages) - 1, -1, -1, dtype=torch.int32, device=pages.device)
    return pages, table.reshape(count, -1)


def _angles(q: Any) -> tuple[Any, Any]:
    """Return cosines and sines ``(places, a quarter of the head dim)`` in the inputs' precision: half of the dims are turned."""
    pairs = q.shape[-1] // 4
    places = torch.arange(LENGTH, dtype=torch.float64)[:, None]
    angles = places * 1e4 ** (-torch.arange(pairs, dtype=torch.float64) / pairs)
    return tuple(part.to(q.device, q.dtype) for part in (angles.cos(), angles.sin()))


def _turned(case: Case, inputs: Inputs, dtype: Any) -> Inputs:
    """Return the inputs in ``dtype``, queries and appended keys turned to their places where the case asks for that."""
    q, k, v = (x.to(dtype) for x in (inputs.q, inputs.k, inputs.v))
    if case.cache.startswith("rotary"):
        cos, sin = (part.to(dtype) for part in _angles(inputs.q))
        places = [torch.arange(keys - new, keys, device=q.device) for new, keys in case.lengths]
        q = _turn(q, cos[torch.cat(places)], sin[torch.cat(places)], neighbours=case.cache == "rotary")
        parts = []
        for part, place in zip(k.split([pair[1] for pair in case.lengths]), places, strict=True):
            new = _turn(part[place], cos[place], sin[place], neighbours=case.cache == "rotary")
            parts.append(torch.cat([part[: place[0]], new]))
        k = torch.cat(parts)
    return replace(inputs, q=q, k=k, v=v)


def _turn(x: Any, cos: Any, sin: Any, *, neighbours: bool) -> Any:
    """Return ``x`` ``(tokens, heads, head dim)`` with its first dims turned pair by pair: neighbours, or one of each half."""
    width, cos, sin = 2 * cos.shape[-1], cos[:, None], sin[:, None]
    a, b = (x[..., :width:2], x[..., 1:width:2]) if neighbours else x[..., :width].chunk(2, -1)
    pair = (a * cos - b * sin, b * cos + a * sin)
    turned = torch.stack(pair, -1).flatten(-2) if neighbours else torch.cat(pair, -1)
    return torch.cat([turned, x[..., width:]], -1)
