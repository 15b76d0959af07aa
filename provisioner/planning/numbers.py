"""Version numbers as tuples, for comparisons that run thousands of times a second."""

from __future__ import annotations

import re
from functools import lru_cache

_PUBLIC = re.compile(r"\d+(?:\.\d+)*")


@lru_cache(maxsize=4096)
def numbers(text: str) -> tuple[int, ...]:
    """Return the leading release numbers of a version: ``"2.8.3.post1+cu12"`` gives ``(2, 8, 3)``, nonsense gives ``()``."""
    match = _PUBLIC.match(text.strip())
    return tuple(int(part) for part in match[0].split(".")) if match else ()


@lru_cache(maxsize=4096)
def minor(text: str) -> str:
    """Return ``"2.9"`` for ``"2.9.1+cu128"``; shorter text as it is."""
    return ".".join(str(number) for number in numbers(text)[:2])


def covers(pin: str, version: str) -> bool:
    """Say whether a pin such as ``"2.9"`` or ``"2.9.1"`` means ``version``: its numbers are a prefix of the version's."""
    wanted = numbers(pin)
    if not wanted or numbers(version)[: len(wanted)] != wanted:
        return False
    return pin == version or not _has_suffix(pin)


def _has_suffix(pin: str) -> bool:
    """Say whether a pin names more than release numbers, as ``2.8.3.post2`` does."""
    return _PUBLIC.fullmatch(pin) is None
