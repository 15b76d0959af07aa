"""Cleaning keeps every line that carries something and takes off what was put around it."""

from __future__ import annotations

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
