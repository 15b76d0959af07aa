"""Mirrors by name: where each serves conda channels, the package index, PyTorch's wheels and release files, and what it lacks."""

from __future__ import annotations

import functools

import msgspec

from provisioner.knowledge import tables


class Mirror(msgspec.Struct, frozen=True):
    """The addresses of one mirror; None where none is known, and ``lacks`` says so in words.

    ``conda`` stands for conda.anaconda.org, ``index_files`` for the package index's files (whose paths it keeps), ``torch`` for PyTorch's
    indexes (``torch_flat``: pages of links instead), ``releases`` for github.com.
    """

    name: str
    title: str
    conda: str | None
    index: str | None
    index_files: str | None
    torch: str | None
    releases: str | None
    lacks: str
    source: str
    date: str
    torch_flat: bool = False


@functools.cache
def mirrors() -> tuple[Mirror, ...]:
    """Return every mirror that has a name."""
    return tables.rows("mirrors", Mirror)


def mirror(name: str) -> Mirror:
    """Return the mirror of that name; raise ``KeyError`` for another."""
    return {row.name: row for row in mirrors()}[name]
