"""The adapter's functions against float64 attention by definition; PyTorch's CUDA operators are stood in for on the CPU."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.adapter.conftest import Compute

pytestmark = pytest.mark.subprocess
EXACT = 1e-6

LENGTH = st.integers(0, 9)
WINDOW = st.one_of(st.just([-1, -1]), st.tuples(st.integers(-1, 10), st.integers(-1, 10)).map(list))
HEADS = st.sampled_from([[4, 4], [4, 2], [6, 2], [3, 1]])
COMMON: dict[str, Any] = {
    "heads": HEADS,
    "dim": st.sampled_from([8, 12, 16]),
    "causal": st.booleans(),
    "window": WINDOW,
    "scale": st.sampled_from([None, 0.5]),
    "strided": st.sampled_from([0, 4, 8]),
    "seed": st.integers(0, 100),
}
FIXED = st.fixed_dictionaries({"lengths": st.tuples(st.integers(1, 3), LENGTH, LENGTH), **COMMON})
RAGGED = st.fixed_dictionaries({"lengths": st.lists(st.tuples(LENGTH, LENGTH).map(list), min_size=1, max_size=4), **COMMON})
SQUARE = st.fixed_dictionaries({"lengths": st.lists(LENGTH.map(lambda n: [n, n]), min_size=1, max_size=4), **COMMON})
SLOW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def check(answer: dict[str, Any]) -> None:
    assert answer["out"] <= EXACT
    assert answer["lse"] <= EXACT
    assert max(answer["grads"]) <= EXACT


@SLOW
@given(case=FIXED)
def test_sequences_of_one_length(compute: Compute, case: dict[str, Any]) -> None:
    batch, queries, keys = case["lengths"]
    check(compute("attention", call="func", **case | {"lengths": [[queries, keys]] * batch}))


@SLOW
@given(case=RAGGED)
def test_packed_sequences_of_any_lengths(compute: Compute, case: dict[str, Any]) -> None:
    check(compute("attention", call="varlen", **case))


@SLOW
@given(case=SQUARE)
def test_packed_sequences_that_share_their_lengths(compute: Compute, case: dict[str, Any]) -> None:
    check(compute("attention", call="varlen", shared=True, **case))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("empty", [[0, 4], [4, 0], [0, 0]])
def test_a_sequence_without_queries_or_without_keys_among_others(compute: Compute, causal: bool, empty: list[int]) -> None:
    case = {"heads": [4, 2], "dim": 8, "causal": causal, "window": [-1, -1], "lengths": [[3, 3], empty, [2, 5]]}
    check(compute("attention", call="varlen", **case))


@pytest.mark.parametrize("call", ["func", "varlen"])
@pytest.mark.parametrize("lengths", [[2, 1], [4, 1], [1, 1]])
def test_one_token_of_a_wider_tensor(compute: Compute, call: str, lengths: list[int]) -> None:
    """PyTorch takes any stride of a single token for contiguous; its kernels refuse one that is no multiple of 8 all the same."""
    case = {"heads": [1, 1], "dim": 8, "causal": True, "window": [-1, -1], "strided": 4, "lengths": [lengths]}
    check(compute("attention", call=call, **case))


@pytest.mark.parametrize("call", ["func", "varlen"])
@pytest.mark.parametrize("heads", [[4, 4], [4, 2]])
def test_the_backward_drops_what_the_forward_dropped(compute: Compute, call: str, heads: list[int]) -> None:
    lengths = [[30, 32]] * 2 if call == "func" else [[30, 32], [11, 32]]
    case = {"heads": heads, "dim": 32, "causal": False, "window": [-1, -1], "dropout": 0.25, "lengths": lengths}
    answer = compute("dropout", call=call, **case)
    assert answer["out"] <= EXACT
    assert max(answer["grads"]) <= EXACT
    assert 0.2 < answer["dropped"] < 0.3


def test_gradients_are_the_same_twice_when_asked_to_be(compute: Compute) -> None:
    case = {"heads": [4, 2], "dim": 16, "causal": True, "window": [-1, -1], "lengths": [[20, 20]], "deterministic": True}
    answer = compute("attention", call="func", **case)
    assert answer["same"]
    assert answer["splits"] == [1, 1]


CACHES = st.fixed_dictionaries(
    {
        "filled": st.lists(st.integers(0, 9), min_size=1, max_size=3),
        "new": st.integers(0, 4),
        "queries": st.integers(1, 4),
        "heads": HEADS,
        "dim": st.sampled_from([16, 20]),
        "causal": st.booleans(),
        "window": WINDOW,
        "seed": st.integers(0, 100),
        "splits": st.integers(0, 3),
        "room": st.just(16),
        "page": st.sampled_from([0, 4, 16]),
        "spare": st.integers(0, 2),
    }
)


@SLOW
@given(case=CACHES, rotary=st.sampled_from([0, 8, 16]), interleaved=st.booleans())
def test_decoding_over_a_cache_writes_and_reads_it(
    compute: Compute, case: dict[str, Any], rotary: int, interleaved: bool
) -> None:
    answer = compute("kvcache", **case, rotary=rotary if case["new"] else 0, interleaved=interleaved)
    assert max(answer["errors"]) <= EXACT


@SLOW
@given(case=CACHES, data=st.data())
def test_a_cache_with_rows_and_left_padding(compute: Compute, case: dict[str, Any], data: st.DataObject) -> None:
    batch = len(case["filled"])
    leftpad = [data.draw(st.integers(0, filled)) for filled in case["filled"]]
    rows = data.draw(st.permutations(range(batch + 1))).__getitem__(slice(0, batch))
    answer = compute("kvcache", **case | {"page": 0}, leftpad=leftpad, rows=rows)
    assert max(answer["errors"]) <= EXACT


@SLOW
@given(case=RAGGED, page=st.sampled_from([0, 2, 4]), data=st.data())
def test_packed_queries_over_keys_of_which_some_are_used(
    compute: Compute, case: dict[str, Any], page: int, data: st.DataObject
) -> None:
    rooms = [keys for _, keys in case["lengths"]]
    used = data.draw(st.one_of(st.none(), st.tuples(*(st.integers(0, room) for room in rooms)).map(list)))
    most = used or rooms
    skipped = data.draw(st.one_of(st.none(), st.tuples(*(st.integers(0, one) for one in most)).map(list))) if not page else None
    plain = case | {"dim": 16, "strided": 0, "scale": None}
    answer = compute("packed_cache", **plain, page=page, used=used, skipped=skipped)
    assert max(answer.values()) <= EXACT


@SLOW
@given(
    mask=st.integers(1, 6).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 1), min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_padding_is_taken_out_and_put_back(compute: Compute, mask: list[list[int]]) -> None:
    answer = compute("padding", mask=mask)
    assert all(answer.values()), answer


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": {"softcap": 30.0}}, "softcap"),
        ({"alibi": True}, "alibi"),
        ({"options": {"dropout_p": 0.1, "return_attn_probs": True}}, "dropout pattern"),
        ({"heads": [4, 3]}, "cannot be grouped"),
        ({"options": {"dropout_p": 1.0}}, "less than 1"),
        ({"options": {"dropout_p": -0.1}}, "at least 0"),
        ({"batches": [2, 1]}, "do not go together"),
        ({"batches": [0, 0]}, "do not go together"),
        ({"starts": [[0, 4], [0, 2, 4]]}, "do not go together"),
        ({"starts": [[0, 4], [0, 4]], "starts_dtype": "int64"}, "must be int32"),
    ],
)
def test_what_no_kernel_has_is_refused_in_words(compute: Compute, change: dict[str, Any], words: str) -> None:
    case = {"lengths": [[4, 4]], "heads": [4, 2], "dim": 16, "options": {}} | change
    assert words in (compute("refused", **case)["error"] or "computed")


HALF = {"dtype": "float16", "head_dim": 64, "capability": [7, 5], "square": True}


@pytest.mark.parametrize(
    ("change", "archs", "kernels"),
    [
        ({}, ["sm_75"], "turing109"),
        ({}, [], "aten"),
        ({"backward": True}, ["sm_75"], "turing109"),
        ({"head_dim": 128}, ["sm_75"], "turing109"),
        ({"head_dim": 128, "backward": True}, ["sm_75"], "aten"),
        ({"head_dim": 128, "dropout": 0.1}, ["sm_75"], "aten"),  # its backward could not draw the forward's numbers
        ({"head_dim": 136}, ["sm_75"], "aten"),
        ({"window": 10, "triangle": 1}, ["sm_75"], "aten"),
        ({"triangle": 1}, ["sm_75"], "turing109"),
        ({"triangle": 1, "square": False}, ["sm_75"], "aten"),
        ({"square": False}, ["sm_75"], "turing109"),
        ({"capability": [7, 0]}, ["sm_75"], "aten"),
        ({"capability": [9, 0]}, ["sm_75"], "aten"),
        ({"capability": [9, 0]}, ["compute_75"], "turing109"),
        ({"capability": [7, 5]}, ["compute_75"], "turing109"),
        ({"capability": [10, 0]}, ["compute_75"], "aten"),  # 1.0.9's host code refuses it
        ({"capability": [8, 6], "dtype": "bfloat16"}, ["sm_75"], "aten"),
    ],
)
def test_each_call_takes_the_kernels_that_are_right_for_it(
    compute: Compute, change: dict[str, Any], archs: list[str], kernels: str
) -> None:
    assert compute("chosen", problem=HALF | change, archs=archs) == {"set": kernels}


@pytest.mark.parametrize("capability", [[7, 0], [7, 5], [6, 1]])
def test_bfloat16_below_8_0_is_refused_with_the_way_out(compute: Compute, capability: list[int]) -> None:
    answer = compute("chosen", problem=HALF | {"dtype": "bfloat16", "capability": capability}, archs=["sm_75"])
    assert "use float16" in answer["error"]


@pytest.mark.slow
@pytest.mark.parametrize("window", [[-1, -1], [2, 3]])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_compiled_function_holds_the_attention_whole(compute: Compute, window: list[int], backend: str, packed: bool) -> None:
    answer = compute("compiled", lengths=[[5, 7], [5, 7]], heads=[4, 2], dim=16, window=window, backend=backend, packed=packed)
    assert answer["out"] <= EXACT
    assert max(answer["grads"]) <= EXACT
