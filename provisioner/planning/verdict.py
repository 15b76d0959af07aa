"""A rule's answer."""

from __future__ import annotations

from typing import NamedTuple


class Verdict(NamedTuple):
    """Why a candidate is rejected: a stable code, and a reason in a sentence."""

    code: str
    reason: str
