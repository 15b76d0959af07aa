"""Versions as numbers: what a pin means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from provisioner.planning.numbers import covers, minor, numbers


@given(st.lists(st.integers(0, 999), min_size=1, max_size=5), st.sampled_from(["", ".post1", "+cu128", "a0", ".dev20250527"]))
def test_numbers_are_the_release_of_the_version(release: list[int], suffix: str) -> None:
    text = ".".join(map(str, release)) + suffix
    assert numbers(text) == Version(text).release


@pytest.mark.parametrize(
    ("pin", "version", "means"),
    [
        ("2.9", "2.9.1", True),
        ("2.9.1", "2.9.1", True),
        ("2.9", "2.10.0", False),
        ("2.1", "2.10.0", False),
        ("2.8.3", "2.8.3.post2", True),
        ("2.8.3.post2", "2.8.3.post2", True),
        ("2.8.3.post2", "2.8.3.post1", False),
        ("2.8.3.post2", "2.8.3", False),
        ("3.12.4", "3.12", False),
        ("", "2.9", False),
    ],
)
def test_a_pin_means_the_versions_that_begin_with_it(pin: str, version: str, means: bool) -> None:
    assert covers(pin, version) is means


def test_the_minor_of_a_version() -> None:
    assert [minor(text) for text in ("2.9.1+cu128", "2.10.0", "3", "")] == ["2.9", "2.10", "3", ""]
