"""Where the indexes lie that serve torch builds which the package index does not have."""

from __future__ import annotations

import functools

import msgspec

from provisioner.knowledge import tables


class TorchIndex(msgspec.Struct, frozen=True):
    """An index by the name that plans use: ``cu126``, ``cpu``, ``jetson/jp6/cu126``."""

    index: str
    url: str
    source: str
    date: str


@functools.cache
def torch_indexes() -> tuple[TorchIndex, ...]:
    """Return the indexes."""
    return tables.rows("torch_indexes", TorchIndex)


def torch_index_url(index: str) -> str | None:
    """Return the address of an index (``plan.torch_index``), None for a name that is not known."""
    return next((row.url for row in torch_indexes() if row.index == index), None)
