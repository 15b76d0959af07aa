"""How many kernels a translation unit instantiates: what it costs to compile follows from that number.

Upstream's launch templates turn run-time questions (is there a window? are lengths even?) into template arguments by nested
switches and tie some of them together to save instances. The functions here count what is left, for any set of features.
Source: flash_fwd_launch_template.h, flash_bwd_launch_template.h and static_switch.h of 2.8.3.post2, read 2026-11-25.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import product

from provisioner.building.shapes import needed_shapes

LARGEST_EVEN = 128
"""Above this head dim upstream has no kernels of their own for lengths that are multiples of the block."""


def count(direction: str, head_dim: int, causal: bool, features: Collection[str], gpus: Sequence[int] | None = None) -> int:
    """Return how many kernels the unit of ``direction`` (``fwd``, ``bwd``, ``split``) holds when compiled with ``features``.

    ``gpus`` limits them to the block shapes of these GPUs (`shapes.gpus_of`); None is all of them.
    """
    known = frozenset(features)
    match direction:
        case "fwd":
            return _forward(head_dim, causal, known, gpus)
        case "bwd":
            return _backward(head_dim, causal, known, gpus)
        case _:
            return _split(head_dim, causal, known)


def _forward(dim: int, causal: bool, features: frozenset[str], gpus: Sequence[int] | None) -> int:
    found = set()
    for dropout, even, local, alibi, softcap in _switches(features):
        shapes = [shape.arguments for shape in needed_shapes("fwd", dim, causal, dropout, gpus)]
        for shape, lengths, weights in product(shapes, (False, True), (False, True)):
            dropped = dropout and not softcap
            even_lengths = lengths and even and not (local or alibi or weights) and dim <= LARGEST_EVEN
            even_dim = even and not (weights or alibi)
            found.add((shape, dropped, local and not causal, alibi, even_lengths, even_dim, softcap, weights and dropped))
    return len(found)


def _backward(dim: int, causal: bool, features: frozenset[str], gpus: Sequence[int] | None) -> int:
    if "backward" not in features:
        return 0
    found = set()
    for dropout, even, local, alibi, softcap in _switches(features):
        shapes = [shape.arguments for shape in needed_shapes("bwd", dim, causal, dropout, gpus)]
        for shape, lengths in product(shapes, (False, True)):
            even_lengths = lengths and even and not (local or alibi) and dim <= LARGEST_EVEN
            found.add((shape, dropout and not softcap, local and not causal, alibi, even_lengths, even and not alibi, softcap))
    return len(found)


def _split(dim: int, causal: bool, features: frozenset[str]) -> int:
    found = set()
    for _, even, local, alibi, softcap in _switches(features - {"dropout"}):
        for lengths, split, append in product((False, True), repeat=3):
            even_lengths = lengths and even and not (append or local or alibi) and dim <= LARGEST_EVEN
            found.add((local and not causal, alibi, even_lengths, even and not alibi, softcap, split, append))
    return len(found)


def _switches(features: frozenset[str]) -> list[tuple[bool, ...]]:
    """Return every combination of (dropout, even head dim, window, ALiBi, softcap) that a build with ``features`` compiles."""
    off_or_on = [(False, True) if name in features else (False,) for name in ("dropout", "local", "alibi", "softcap")]
    dropout, local, alibi, softcap = off_or_on
    even = (False, True) if "uneven" in features else (True,)
    return list(product(dropout, even, local, alibi, softcap))
