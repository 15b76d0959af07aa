"""Claims: what one kind of text states about one fact, and how the claims of several texts become one answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Claim:
    """One statement: a dotted fact such as ``driver.version``, its value, and the line that states it.

    A value of None is a statement too: the text says that there is none (``CUDA used to build PyTorch: None``), which
    weaker sources must not contradict.
    """

    fact: str
    value: Any
    line: str = ""


@dataclass(frozen=True, slots=True)
class Stated:
    """A claim that won, with the name of the reader that made it."""

    claim: Claim
    reader: str


def merge(readings: Iterable[tuple[str, Iterable[Claim]]]) -> dict[str, Stated]:
    """Return the winning claim per fact: the first claim of the first reader that states the fact."""
    merged: dict[str, Stated] = {}
    for reader, claims in readings:
        for claim in claims:
            merged.setdefault(claim.fact, Stated(claim, reader))
    return merged
