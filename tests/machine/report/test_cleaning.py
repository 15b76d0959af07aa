"""Cleaning keeps every line that carries something and takes off what was put around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.machine.report.cleaning import clean


def test_fences_and_summary_tags_vanish_and_inner_text_stays() -> None:
    assert clean("```text\nA: 1\n```\n<details>\n<b>B</b>: 2\n</details>").lines == ("A: 1", "B: 2")


def test_full_width_punctuation_becomes_plain() -> None:
    assert clean("python：3.10").text == "python: 3.10"


@given(st.text(max_size=300))
def test_cleaning_twice_changes_nothing_more_than_prefixes(text: str) -> None:
    once = clean(text)
    assert "\x1b" not in once.text
    assert "\r" not in once.text
    assert len(clean(once.text).lines) <= len(once.lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("\t\tA: 1\n\t\t  B: 2\n\n\t\tC: 3", ("A: 1", "  B: 2", "", "C: 3")),
        ("#4 3570.9 > A: 1\n#4 3570.9\n#4 3571.0 > B: 2", ("A: 1", "", "B: 2")),
        ("0: A: 1\n0: B: 2\n0: C: 3", ("A: 1", "B: 2", "C: 3")),
        ("A: 1\nA: 2\nA: 3", ("A: 1", "A: 2", "A: 3")),
        ("2024-10-24 09:56:12,178 - root - INFO - A: 1", ("A: 1",)),
        ("| GPU | NVIDIA L4 |\n| --- | --- |\n| Python | 3.11 |", ("GPU: NVIDIA L4", "| --- | --- |", "Python: 3.11")),
        ("|   0  NVIDIA A40      On | 00000000:01:00.0  On |", ("|   0  NVIDIA A40      On | 00000000:01:00.0  On |",)),
        (">>> import torch\n> A: 1", (">>> import torch", "A: 1")),
    ],
)
def test_what_was_put_around_lines_is_taken_off(text: str, lines: tuple[str, ...]) -> None:
    assert clean(text).lines == lines
