"""The first statement of the most trusted reader wins, also when it says that there is nothing."""

from __future__ import annotations

from provisioner.machine.report.claims import Claim, merge


def test_an_earlier_reader_wins_over_a_later_one() -> None:
    stated = merge([("a", [Claim("x", 1)]), ("b", [Claim("x", 2), Claim("y", 3)])])
    assert (stated["x"].claim.value, stated["x"].reader) == (1, "a")
    assert stated["y"].reader == "b"


def test_none_is_a_statement() -> None:
    assert merge([("a", [Claim("x", None)]), ("b", [Claim("x", 2)])])["x"].claim.value is None
