"""The errors that people meet when they install, build, import or run flash-attn: how to recognise each, why, what to do."""

from __future__ import annotations

import functools
import re

import msgspec

from provisioner.knowledge import tables


class KnownError(msgspec.Struct, frozen=True):
    """One entry; ``regex`` finds it in a log, ``threads`` name the reports, a lower ``priority`` is tried first.

    ``stage`` is ``install``, ``build``, ``import`` or ``run``; ``sample`` is a line that the regex matches.
    """

    id: str
    stage: str
    priority: int
    regex: str
    sample: str
    cause: str
    fix: str
    threads: tuple[str, ...]
    sample_from: str
    source: str
    date: str

    @property
    def pattern(self) -> re.Pattern[str]:
        """The compiled ``regex``."""
        return _compiled(self.regex)


@functools.cache
def _compiled(regex: str) -> re.Pattern[str]:
    return re.compile(regex)


@functools.cache
def entries() -> tuple[KnownError, ...]:
    """Return the catalogue in the order in which the entries are to be tried."""
    return tuple(sorted(tables.rows("errors", KnownError), key=lambda entry: (entry.priority, entry.id)))
