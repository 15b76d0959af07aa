"""From flash-attn's tensors to a kernel set's and back: masks cut to what kernels know, heads grouped, sequences packed or one by one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._masks import Bounds, Cut, Triangle, cut, cut_all
from ._problem import Packing, Problem, capability_of, choose


@dataclass(frozen=True)
class Options:
    """What a call asks for beside its tensors."""

    scale: float
    bounds: Bounds
    dropout: float = 0.0
    deterministic: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise RuntimeError(f"dropout_p must be at least 0 and less than 1, not {self.dropout}")


def _problem(options: Options, q: Tensor, found: Cut, *, square: bool, backward: bool, packing: Packing | None = None) -> Problem:
    return Problem(
        q.dtype,
        q.shape[-1],
        capability_of(q.device),
        options.scale,
        found.triangle,
        found.window,
        square,
        options.dropout,
        options.deterministic,
        backward,
        packing,
    )


def fixed_forward(options: Options, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp ``(batch, heads, queries)`` and random state of sequences of one length.

    A query that sees no key gets zeros, and infinity as its log-sum-exp, as in upstream's kernels.
    """
    found = cut(q.shape[1], k.shape[1], options.bounds, backward=options.dropout > 0) if len(q) else None
    if found is None:
        return _zeros(q), _infinite(q), torch.zeros(2, dtype=torch.int64)
    heads = _Heads(q, k, may_fold=found.triangle is Triangle.NONE)
    rows, keys = slice(*found.rows), slice(*found.keys)
    inner_q, inner_k, inner_v = heads.queries(q[:, rows], found.front), heads.keys(k[:, keys]), heads.keys(v[:, keys])
    problem = _problem(options, q, found, square=inner_q.shape[1] == inner_k.shape[1], backward=False)
    inner_out, inner_lse, rng = choose(problem).forward(problem, inner_q, inner_k, inner_v)
    inner_out, inner_lse = heads.from_queries(inner_out, found.front), heads.from_rows(inner_lse, found.front)
    if found.rows == (0, q.shape[1]):
        return inner_out.contiguous(), inner_lse.contiguous(), rng  # as the operators' fake kernels promise to compilers
    out, lse = _zeros(q), _infinite(q)
    out[:, rows], lse[:, :, rows] = inner_out, inner_lse
    return out, lse, rng


def fixed_backward(
    options: Options, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `fixed_forward`; zeros where nothing was seen."""
    found = cut(q.shape[1], k.shape[1], options.bounds, backward=True) if len(q) else None
    if found is None:
        return _zeros(q), _zeros(k), _zeros(v)
    heads = _Heads(q, k, may_fold=found.triangle is Triangle.NONE)
    rows, keys = slice(*found.rows), slice(*found.keys)
    inner_grad, inner_q, inner_out = (heads.queries(x[:, rows], found.front) for x in (grad, q, out))
    inner_k, inner_v = heads.keys(k[:, keys]), heads.keys(v[:, keys])
    inner_lse = heads.rows(lse[:, :, rows], found.front)
    problem = _problem(options, q, found, square=inner_q.shape[1] == inner_k.shape[1], backward=True)
    dq, dk, dv = choose(problem).backward(problem, inner_grad, inner_q, inner_k, inner_v, inner_out, inner_lse, rng)
    return (
        _placed(heads.from_queries(dq, found.front), q, rows),
        _placed(heads.from_keys(dk), k, keys),
        _placed(heads.from_keys(dv), v, keys),
    )


def _placed(part: Tensor, whole: Tensor, place: slice) -> Tensor:
    """Return ``part`` at its place in a tensor like ``whole``, zeros around it."""
    if part.shape == whole.shape:
        return part
    around = _zeros(whole)
    around[:, place] = part
    return around


def _zeros(x: Tensor) -> Tensor:
    return torch.zeros_like(x, memory_format=torch.contiguous_format)


def _infinite(q: Tensor) -> Tensor:
    dtype = torch.promote_types(q.dtype, torch.float32)
    return torch.full((q.shape[0], q.shape[2], q.shape[1]), torch.inf, dtype=dtype, device=q.device)


class _Heads:
    """Grouped heads: without a mask the queries of a group stand as further rows over one key head; else key heads are repeated."""

    def __init__(self, q: Tensor, k: Tensor, *, may_fold: bool) -> None:
        self.key_heads = k.shape[2]
        self.group = q.shape[2] // k.shape[2]
        self.folds = self.group > 1 and may_fold

    def queries(self, x: Tensor, front: int) -> Tensor:
        """Return ``(batch, rows, heads, dim)`` as the kernels get it, with ``front`` rows of zeros before."""
        if front:
            x = pad(x, (0, 0, 0, 0, front, 0))
        if not self.folds:
            return x
        x = x.unflatten(2, (self.key_heads, self.group)).transpose(2, 3)
        return x.reshape(x.shape[0], -1, self.key_heads, x.shape[-1])

    def from_queries(self, x: Tensor, front: int) -> Tensor:
        """Undo `queries`."""
        if self.folds:
            x = x.unflatten(1, (-1, self.group)).transpose(2, 3).flatten(2, 3)
        return x[:, front:]

    def rows(self, x: Tensor, front: int) -> Tensor:
        """Return a log-sum-exp ``(batch, heads, rows)`` as the kernels get it."""
        if front:
            x = pad(x, (front, 0), value=torch.inf)
        return x.unflatten(1, (self.key_heads, self.group)).transpose(2, 3).flatten(2, 3) if self.folds else x

    def from_rows(self, x: Tensor, front: int) -> Tensor:
        """Undo `rows`."""
        if self.folds:
            x = x.unflatten(2, (-1, self.group)).transpose(2, 3).flatten(1, 2)
        return x[:, :, front:]

    def keys(self, x: Tensor) -> Tensor:
        """Return keys or values as the kernels get them."""
        return x if self.folds or self.group == 1 else x.repeat_interleave(self.group, 2)

    def from_keys(self, x: Tensor) -> Tensor:
        """Undo `keys` for gradients: those of a group are added, in float32."""
        if self.folds or self.group == 1:
            return x
        return x.unflatten(2, (self.key_heads, self.group)).sum(3, dtype=torch.promote_types(x.dtype, torch.float32)).to(x.dtype)


@dataclass(frozen=True)
class Sequences:
    """Packed sequences as flash-attn gets them; ``same`` says that queries and keys have the very same lengths.

    ``used`` are numbers of keys fewer than the starts leave room for, ``skipped`` keys at the beginning of each; None is all and none.
    """

    packing: Packing
    same: bool
    used: Tensor | None = None
    skipped: Tensor | None = None

    @classmethod
    def of(
        cls,
        q: Tensor,
        k: Tensor,
        starts: tuple[Tensor, Tensor],
        longest: tuple[int, int],
        *,
        used: Tensor | None = None,
        skipped: Tensor | None = None,
    ) -> Sequences:
        """Return them with longest lengths that the tensors can hold. Raise where upstream's checks of the starts would."""
        if starts[0].ndim != 1 or starts[0].shape != starts[1].shape or not len(starts[0]):
            raise RuntimeError(f"cu_seqlens do not go together: {tuple(starts[0].shape)} and {tuple(starts[1].shape)}")
        if any(x.dtype is not torch.int32 for x in starts):
            raise RuntimeError(f"cu_seqlens must be int32, not {starts[0].dtype} and {starts[1].dtype}")
        starts_q, starts_k = (x.contiguous() for x in starts)
        same = starts_q.data_ptr() == starts_k.data_ptr() and starts_q.shape == starts_k.shape
        packing = Packing(starts_q, starts_k, max(1, min(longest[0], q.shape[0])), max(1, min(longest[1], k.shape[0])))
        return cls(packing, same and used is None and skipped is None, used, skipped)

    def places(self) -> list[tuple[slice, slice]]:
        """Return where each sequence lies in queries and keys. (Waits for the device.)"""
        q, k = self.packing.starts_q.tolist(), self.packing.starts_k.tolist()
        ends = k[1:] if self.used is None else [start + used for start, used in zip(k[:-1], self.used.tolist(), strict=True)]
        begins = (
            k[:-1]
            if self.skipped is None
            else [start + skipped for start, skipped in zip(k[:-1], self.skipped.tolist(), strict=True)]
        )
        return [(slice(a, b), slice(c, max(c, d))) for a, b, c, d in zip(q[:-1], q[1:], begins, ends, strict=True)]

    def together(self, options: Options, *, backward: bool) -> Cut | None:
        """Return the mask with which the kernels take all sequences in one call, None when they must go one by one."""
        if options.dropout or self.used is not None or self.skipped is not None:
            return None
        if self.same:
            return cut_all([(1, 1)], options.bounds, backward=backward)
        lengths = [(a.stop - a.start, b.stop - b.start) for a, b in self.places()]
        return cut_all(lengths, options.bounds, backward=backward)

    def spread(self, lse: Tensor) -> Tensor:
        """Return ``(sequences, heads, longest)`` of a log-sum-exp ``(heads, tokens)``, infinity where there is no query."""
        number, offset = self._positions(lse.shape[1], lse.device)
        count = self.packing.starts_q.numel() - 1
        wide = torch.full((count + 1, self.packing.longest_q, lse.shape[0]), torch.inf, dtype=lse.dtype, device=lse.device)
        wide[number, offset] = lse.T
        return wide[:count].transpose(1, 2)

    def gather(self, lse: Tensor, tokens: int) -> Tensor:
        """Undo `spread`."""
        number, offset = self._positions(tokens, lse.device)
        return lse[number.clamp(max=lse.shape[0] - 1), :, offset].T.contiguous()

    def _positions(self, tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return each token's sequence and place in it; tokens after the last sequence count as one more."""
        token = torch.arange(tokens, device=device)
        number = torch.searchsorted(self.packing.starts_q[1:].long(), token, right=True)
        return number, (token - self.packing.starts_q.long()[number]).clamp(max=self.packing.longest_q - 1)


def packed_forward(options: Options, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    """Return output, log-sum-exp ``(heads, tokens)`` and random state of packed sequences ``(tokens, heads, head dim)``."""
    found = sequences.together(options, backward=False) if len(q) and len(k) else None
    if found is None:
        return _forward_one_by_one(options, q, k, v, sequences)
    problem, inner = _packed_problem(options, q, k, v, found, sequences, backward=False)
    out, lse, rng = choose(problem).forward(problem, *inner)
    return out[0], sequences.gather(lse, q.shape[0]), rng


def packed_backward(
    options: Options, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor, sequences: Sequences
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of `packed_forward`."""
    found = sequences.together(options, backward=True) if len(q) and len(k) else None
    if found is None:
        return _backward_one_by_one(options, grad, q, k, v, out, lse, rng, sequences)
    problem, inner = _packed_problem(options, q, k, v, found, sequences, backward=True)
    dq, dk, dv = choose(problem).backward(problem, grad[None], *inner, out[None], sequences.spread(lse), rng)
    heads = _Heads(q[None], k[None], may_fold=False)
    return dq[0], heads.from_keys(dk)[0], heads.from_keys(dv)[0]


def _packed_problem(
    options: Options, q: Tensor, k: Tensor, v: Tensor, found: Cut, sequences: Sequences, *, backward: bool
) -> tuple[Problem, tuple[Tensor, Tensor, Tensor]]:
    square = found.triangle is not Triangle.BOTTOM_RIGHT
    problem = _problem(options, q, found, square=square, backward=backward, packing=sequences.packing)
    heads = _Heads(q[None], k[None], may_fold=False)
    return problem, (q[None], heads.keys(k[None]), heads.keys(v[None]))


def _forward_one_by_one(options: Options, q: Tensor, k: Tensor, v: Tensor, sequences: Sequences) -> tuple[Tensor, Tensor, Tensor]:
    out, lse = _zeros(q), _infinite(q[None])[0]
    states = []
    for rows, keys in sequences.places():
        one = fixed_forward(options, q[None, rows], k[None, keys], v[None, keys])
        out[rows], lse[:, rows] = one[0][0], one[1][0]
        states.append(one[2])
    return out, lse, torch.stack(states) if options.dropout else torch.zeros(2, dtype=torch.int64)


def _backward_one_by_one(
    options: Options, grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, rng: Tensor, sequences: Sequences
) -> tuple[Tensor, Tensor, Tensor]:
    whole = (_zeros(q), _zeros(k), _zeros(v))
    for index, (rows, keys) in enumerate(sequences.places()):
        state = rng[index] if options.dropout else rng
        inner = (grad[None, rows], q[None, rows], k[None, keys], v[None, keys], out[None, rows], lse[None, :, rows])
        one = fixed_backward(options, *inner, state)
        for target, part, place in zip(whole, one, (rows, keys, keys), strict=True):
            target[place] = part[0]
    return whole
