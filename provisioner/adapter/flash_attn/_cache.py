"""The key/value cache of decoding: new keys rotated and written in place, pages put together, then attention over what is used."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._layout import Options, Sequences, fixed_forward, packed_forward
from ._refusals import check_inputs


@dataclass(frozen=True)
class Cache:
    """Keys and values ``(sequences, length, heads, dim)``, or ``(pages, page length, heads, dim)`` with a ``table`` of pages.

    ``rows`` are the places of the batch's sequences in a cache without pages; ``lengths`` (int32) counts what is filled, new keys
    not included.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    rows: Tensor | None = None
    table: Tensor | None = None

    def write(self, k: Tensor, v: Tensor) -> None:
        """Put new keys and values ``(batch, new, heads, dim)`` behind what is filled, in place."""
        place = self.lengths.long()[:, None] + torch.arange(k.shape[1], device=k.device)
        if self.table is None:
            row = self.rows.long() if self.rows is not None else torch.arange(k.shape[0], device=k.device)
            index = (row[:, None].expand_as(place), place)
        else:
            size = self.keys.shape[1]
            index = (self.table.long().gather(1, place // size), place % size)
        self.keys[index], self.values[index] = k.to(self.keys.dtype), v.to(self.values.dtype)

    def read(self) -> tuple[Tensor, Tensor]:
        """Return keys and values ``(batch, length, heads, dim)``; pages and chosen rows are copied."""
        return gather_pages(self.keys, self.table, self.rows), gather_pages(self.values, self.table, self.rows)


def gather_pages(x: Tensor, table: Tensor | None, rows: Tensor | None = None) -> Tensor:
    """Return the pages of each sequence one after the other, or the chosen rows."""
    if table is not None:
        return x[table.long()].flatten(1, 2)
    return x if rows is None else x[rows.long()]


def decode(options: Options, q: Tensor, cache: Cache, new: int, leftpad: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return output and log-sum-exp ``(batch, heads, queries)`` of ``q`` over the cache, ``new`` keys more than its lengths say."""
    keys, values = cache.read()
    filled = [length + new for length in cache.lengths.tolist()]
    missing = -q.shape[-1] % 8
    if missing:
        q, keys, values = (pad(x, (0, missing)) for x in (q, keys, values))
    check_inputs(q, keys, values)
    if len(set(filled)) <= 1 and leftpad is None:
        length = filled[0] if filled else 0
        out, lse, _ = fixed_forward(options, q, keys[:, :length], values[:, :length])
    else:
        packed_q, packed_k, packed_v = (x.flatten(0, 1) for x in (q, keys, values))
        starts = tuple(torch.arange(x.shape[0] + 1, dtype=torch.int32, device=x.device) * x.shape[1] for x in (q, keys))
        used = (cache.lengths + new).to(torch.int32)
        sequences = Sequences.of(
            packed_q, packed_k, (starts[0], starts[1]), (q.shape[1], keys.shape[1]), used=used, skipped=leftpad
        )
        out, lse, _ = packed_forward(options, packed_q, packed_k, packed_v, sequences)
        out, lse = out.unflatten(0, q.shape[:2]), lse.unflatten(1, q.shape[:2]).transpose(0, 1).contiguous()
    return out[..., : out.shape[-1] - missing], lse
