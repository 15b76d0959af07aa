from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.capability import ComputeCapability

capabilities = st.builds(ComputeCapability, st.integers(1, 19), st.integers(0, 9))


@given(capabilities)
def test_a_capability_reads_back_from_each_of_its_spellings(cc: ComputeCapability) -> None:
    for text in (str(cc), cc.sm, cc.sm.replace("sm_", "compute_"), cc.sm.replace("_", ""), cc.sm[3:]):
        assert ComputeCapability.parse(text) == cc


@pytest.mark.parametrize("text", ["", "9", "nine", "9.0.1", "sm_9000"])
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"write 9\.0 or sm_90"):
        ComputeCapability.parse(text)


def test_a_binary_runs_on_the_same_major_from_its_minor_up() -> None:
    parse = ComputeCapability.parse
    assert parse("8.6").runs_binary_of(parse("8.0"))
    assert not parse("8.0").runs_binary_of(parse("8.6"))
    assert not parse("9.0").runs_binary_of(parse("8.0"))
    assert not parse("8.7").runs_binary_of(parse("8.0")), "Orin runs only its own"
    assert not parse("8.9").runs_binary_of(parse("8.7"))
    assert parse("8.7").runs_binary_of(parse("8.7"))
