"""The search for the largest block is exact, gives up nothing, and says when it cannot be made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.diagnosing.child.largest_block import STEP, largest
from provisioner.diagnosing.memory.largest_block import LargestBlock, Probed, judge, probe
from provisioner.errors import UsageError

GIB = 2**30


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_the_answer_is_the_largest_multiple_of_the_step_that_fits_found_in_a_few_tries(room: int, limit: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= room

    assert largest(fits, limit) == min(room, limit) // STEP * STEP
    assert len(tried) <= 20


def test_a_block_far_below_the_free_memory_and_little_pinned_memory_are_findings() -> None:
    assert [one.code for one in judge(Probed((LargestBlock(0, 40 * GIB, 80 * GIB, 8 * GIB),), 2 * GIB))] == [
        "largest-block-limited"
    ]
    assert [one.code for one in judge(Probed((LargestBlock(0, 40 * GIB, 80 * GIB, 39 * GIB),), 64 << 20))] == [
        "pinned-memory-limited"
    ]
    assert not list(judge(Probed()))


@pytest.mark.subprocess
def test_a_python_without_torch_says_that_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="could not allocate") as raised:
        probe(Path(sys.executable))
    assert "torch" in (raised.value.why or "")
