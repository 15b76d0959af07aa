"""The allocator's variable: every entry is read, and what torch would not take is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.diagnosing.memory.settings import judge, parse


def codes(variables: dict[str, str], **more: object) -> list[str]:
    arguments: dict[str, object] = {"torch": "2.11.0", "wsl": False, **more}
    return [one.code for one in judge(variables, **arguments)]  # type: ignore[arg-type]


def test_a_list_of_divisions_is_one_value() -> None:
    found = parse("expandable_segments:True,roundup_power2_divisions:[32:256,64:128,256:64,>:32],max_split_size_mb:128")
    assert found.wrong == ()
    assert found.values == {
        "expandable_segments": "True",
        "roundup_power2_divisions": "[32:256,64:128,256:64,>:32]",
        "max_split_size_mb": "128",
    }


@pytest.mark.parametrize(
    "text",
    [
        "expandable_segment:True",
        "expandable_segments:true",
        "expandable_segments=True",
        "max_split_size_mb:10",
        "max_split_size_mb:many",
        "backend:fast",
    ],
)
def test_a_wrong_key_or_value_is_called_out(text: str) -> None:
    assert parse(text).wrong
    assert parse(text).values == {}
    assert codes({"PYTORCH_ALLOC_CONF": text}) == ["allocator-setting-wrong"]


def test_the_new_name_is_said_to_be_ignored_before_torch_2_10() -> None:
    assert codes({"PYTORCH_ALLOC_CONF": "max_split_size_mb:128"}, torch="2.9.1") == ["allocator-variable-ignored"]
    assert codes({"PYTORCH_ALLOC_CONF": "max_split_size_mb:128"}, torch="2.10.0+cu128") == []
    assert codes({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, torch="2.9.1") == []


def test_expandable_segments_are_judged_by_what_the_allocator_itself_says() -> None:
    asked = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    assert codes(asked, real={"expandable_segments": True}) == []
    assert codes(asked, real={"expandable_segments": False}) == ["allocator-setting-not-in-force"]
    assert codes(asked, wsl=True) == ["expandable-segments-on-wsl"]
    assert codes({}) == []


@given(st.text(max_size=200))
def test_anything_can_be_parsed(text: str) -> None:
    found = parse(text)
    assert not set(found.values) & {entry for entry, _ in found.wrong}
