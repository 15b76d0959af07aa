"""Reading the tables of facts that ship beside this module, as typed rows.

A table is a JSON file ``{"source": …, "date": …, "rows": [{…}, …]}``. A row that states no source or date of its own
takes the table's, so every row that a loader returns carries both.

Rows are msgspec structs, not dataclasses: some thirty kinds are made at every start, in 0.04 ms each instead of 2.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

DATA = Path(__file__).with_name("data")  # importlib.resources would cost 40 ms of every start


class Table(msgspec.Struct, frozen=True):
    """A file of facts before its rows are typed; ``date`` is the day on which ``source`` was read."""

    source: str
    date: str
    rows: tuple[dict[str, Any], ...]
    note: str | None = None


def table_names() -> tuple[str, ...]:
    """Return the names of all tables that ship, sorted."""
    return tuple(sorted(path.stem for path in DATA.glob("*.json")))


@functools.cache
def table(name: str) -> Table:
    """Return the table ``name``; raises ``msgspec.ValidationError`` where the file is not one."""
    return msgspec.json.decode((DATA / f"{name}.json").read_bytes(), type=Table)


def rows(name: str, kind: type[T]) -> tuple[T, ...]:
    """Return the rows of the table ``name`` as values of ``kind``, which must have ``source`` and ``date``.

    Raises ``msgspec.ValidationError`` naming the row and field that is wrong.
    """
    found = table(name)
    stated = [{"source": found.source, "date": found.date, **row} for row in found.rows]
    return msgspec.convert(tuple(stated), tuple[kind, ...])  # type: ignore[valid-type]
