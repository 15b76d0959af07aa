"""Architectures as a build names them."""

from __future__ import annotations

import pytest

from provisioner.building.archs import capability_of, ordered
from provisioner.errors import UsageError


def test_equal_builds_have_equal_architectures() -> None:
    assert ordered(["sm_120", "sm_90a", "sm_90", "sm_90"]) == ordered(["sm_90", "sm_90a", "sm_120"])
    assert ordered(["compute_75", "sm_100f", "sm_75"])[0].endswith("_75")


@pytest.mark.parametrize(("text", "meant"), [("90", "sm_90"), ("8.6", "sm_86"), ("sm_", "sm_90"), ("hopper", "sm_90")])
def test_what_is_no_architecture_is_refused_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"{text!r} is not an architecture") as caught:
        ordered([text])
    assert caught.value.hints == (f"--arch {meant}",)


def test_none_at_all_is_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        ordered([])


@pytest.mark.parametrize(
    ("arch", "capability"), [("sm_90a", "9.0"), ("compute_75", "7.5"), ("sm_100f", "10.0"), ("sm_120", "12.0")]
)
def test_an_architecture_is_for_one_compute_capability(arch: str, capability: str) -> None:
    assert str(capability_of(arch)) == capability
