"""The adapter's rotary embedding against complex numbers: batches and packed sequences, in place or not, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapter.conftest import Compute

pytestmark = pytest.mark.subprocess
EXACT = 1e-12

LENGTHS = st.one_of(
    st.tuples(st.just(True), st.lists(st.integers(0, 6), min_size=1, max_size=4).filter(any)),
    st.tuples(st.just(False), st.builds(lambda count, length: [length] * count, st.integers(1, 3), st.integers(1, 6))),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=LENGTHS,
    shifts=st.one_of(st.integers(0, 3), st.lists(st.integers(0, 4), min_size=4, max_size=4)),
    case=st.fixed_dictionaries(
        {
            "pairs": st.integers(1, 4),
            "rest": st.integers(0, 3),
            "spare": st.integers(0, 2),
            "interleaved": st.booleans(),
            "inplace": st.booleans(),
            "of": st.sampled_from(["leaf", "result", "unbound"]),
            "seed": st.integers(0, 100),
        }
    ),
)
def test_every_token_is_turned_to_its_place_and_its_gradient_back(
    rotate: Compute, lengths: tuple[bool, list[int]], shifts: int | list[int], case: dict[str, Any]
) -> None:
    packed, sizes = lengths
    offsets = [shifts] * len(sizes) if isinstance(shifts, int) else shifts[: len(sizes)]
    answer = rotate("emb", packed=packed, lengths=sizes, offsets=offsets, **case)
    assert max(answer.values()) <= EXACT, answer


def test_what_is_in_no_sequence_or_behind_the_tables_stays_as_it_is(rotate: Compute) -> None:
    assert rotate("edges")["out"] <= EXACT


@pytest.mark.parametrize("form", ["qkv", "grouped", "apart"])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize(("interleaved", "width", "offset"), [(False, 16, 0), (True, 16, 3), (False, 8, 3), (True, 8, 0)])
@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_the_module_turns_queries_and_keys(
    rotate: Compute, form: str, each: bool, interleaved: bool, width: int, offset: int, dtype: str, error: float
) -> None:
    case = {"interleaved": interleaved, "width": width, "offset": offset, "dtype": dtype, "base": 500.0}
    answer = rotate("module", form=form, each=each, **case)
    assert answer["error"] <= error
    assert answer["tables"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("xpos", "NotImplementedError: this flash_attn has no xPos"),
        ("positions", "NotImplementedError: this flash_attn computes positions in float32"),
        ("keys", "NotImplementedError: this flash_attn has no xPos"),
        ("short", "hold 4 positions, and 5 are asked for"),
        ("packed-short", "hold 4 positions, and 5 are asked for"),
        ("wide", "do not go together"),
        ("unlike", "do not go together"),
        ("longest", "needs max_seqlen"),
        ("batch", "with cu_seqlens"),
        ("offsets", "must be 2 integers"),
        ("floats", "must be 2 integers"),
        ("heads", "num_heads_q"),
        ("pair", "(batch, tokens, 2, heads, dim)"),
        ("tables", "needs max_seqlen"),
    ],
)
def test_what_it_cannot_do_is_refused_in_words(rotate: Compute, call: str, words: str) -> None:
    assert words in (rotate("refused", call=call)["error"] or "computed")


@pytest.mark.slow
@pytest.mark.parametrize("inplace", [False, True])
def test_a_compiled_function_holds_it_whole(rotate: Compute, inplace: bool) -> None:
    assert max(rotate("compiled", inplace=inplace).values()) <= EXACT
