"""How flash-attn's masks are brought to what the kernels know: pure, so every small shape is tried."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.adapter.sources import FOLDER

SIDES = st.one_of(st.none(), st.integers(0, 12))
LENGTHS = st.integers(0, 10)


def load(path: Path) -> ModuleType:
    """Return the module in ``path`` without its package, which needs torch."""
    spec = importlib.util.spec_from_file_location(f"adapter{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


masks: Any = load(FOLDER / "_masks.py")


def meant(queries: int, keys: int, left: int | None, right: int | None) -> set[tuple[int, int]]:
    """The (query, key) pairs of flash-attn 2.1 and later, from its documentation."""
    shift = keys - queries
    return {
        (i, j)
        for i in range(queries)
        for j in range(keys)
        if (left is None or j >= i + shift - left) and (right is None or j <= i + shift + right)
    }


def computed(cut: Any) -> set[tuple[int, int]]:
    """The pairs that the kernels see for a cut, brought back to the caller's numbers."""
    (first, last), (low, high) = cut.rows, cut.keys
    rows, width = last - first + cut.front, high - low
    pairs = set()
    for i in range(rows):
        diagonal = i + (width - rows if cut.triangle == masks.Triangle.BOTTOM_RIGHT else 0)
        for j in range(width):
            seen = cut.triangle == masks.Triangle.NONE or j <= diagonal
            seen = seen and (cut.window is None or j > diagonal - cut.window)
            if seen and i >= cut.front:
                pairs.add((i - cut.front + first, j + low))
    return pairs


@given(LENGTHS, LENGTHS, SIDES, SIDES, st.booleans())
@settings(max_examples=250)
def test_the_kernels_see_exactly_what_flash_attn_means(
    queries: int, keys: int, left: int | None, right: int | None, backward: bool
) -> None:
    cut = masks.cut(queries, keys, masks.Bounds(left, right), backward=backward)
    assert (computed(cut) if cut else set()) == meant(queries, keys, left, right)


@given(LENGTHS, LENGTHS, SIDES, SIDES)
@settings(max_examples=150)
def test_every_row_and_key_that_is_left_takes_part(queries: int, keys: int, left: int | None, right: int | None) -> None:
    cut = masks.cut(queries, keys, masks.Bounds(left, right), backward=True)
    pairs = meant(queries, keys, left, right)
    if cut is None:
        assert not pairs
        return
    assert {i for i, _ in pairs} == set(range(*cut.rows))
    assert {j for _, j in pairs} == set(range(*cut.keys))


@given(LENGTHS, LENGTHS, SIDES, SIDES)
@settings(max_examples=150)
def test_a_backward_never_gets_a_window_from_the_bottom_right(
    queries: int, keys: int, left: int | None, right: int | None
) -> None:
    cut = masks.cut(queries, keys, masks.Bounds(left, right), backward=True)
    assert cut is None or cut.window is None or cut.triangle == masks.Triangle.TOP_LEFT


@given(st.lists(st.tuples(LENGTHS, LENGTHS), max_size=4), SIDES, SIDES, st.booleans())
@settings(max_examples=150)
def test_sequences_go_together_only_under_a_mask_that_is_right_for_each(
    lengths: list[tuple[int, int]], left: int | None, right: int | None, backward: bool
) -> None:
    together = masks.cut_all(lengths, masks.Bounds(left, right), backward=backward)
    for queries, keys in lengths if together is not None else ():
        whole = masks.Cut((0, queries), (0, keys), together.triangle, together.window)
        assert computed(whole) == meant(queries, keys, left, right)
        assert {i for i, _ in computed(whole)} == set(range(queries)), "a row without keys would be left unwritten"


@pytest.mark.parametrize(
    ("causal", "window", "bounds"),
    [
        (False, (-1, -1), (None, None)),
        (True, (-1, -1), (None, 0)),
        (True, (64, 64), (64, 0)),
        (False, (17, 29), (17, 29)),
        (False, (-1, 5), (None, 5)),
    ],
)
def test_causal_closes_the_right_side(causal: bool, window: tuple[int, int], bounds: tuple[int | None, int | None]) -> None:
    assert masks.Bounds.of(causal, window) == masks.Bounds(*bounds)
