from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from provisioner.knowledge import (
    archs,
    compilers,
    drivers,
    error_catalogue,
    flash_attn,
    gpus,
    mirrors,
    packages,
    tables,
    torch_builds,
    wheel_index,
)

LOADERS: dict[str, Callable[[], Any]] = {
    "archs": archs.archs,
    "bitsandbytes": packages.bitsandbytes,
    "compilers": compilers.host_compilers,
    "conda_builds": wheel_index.conda_builds,
    "cuda_drivers": drivers.bundled,
    "cuda_forward_compatibility": drivers.forward_compatibility,
    "cuda_minor_compatibility": lambda: tuple(drivers.minor_compatibility().values()),
    "driver_branches": drivers.branches,
    "errors": error_catalogue.entries,
    "flash_attn": flash_attn.releases,
    "flash_attn_ports": flash_attn.ports,
    "gpus": gpus.models,
    "jetson_drivers": drivers.jetson,
    "mirrors": mirrors.mirrors,
    "torch_builds": torch_builds.builds,
    "torch_line_compatibility": torch_builds.line_compatibility,
    "triton": packages.triton,
    "unsloth": packages.unsloth,
    "wheel_places": wheel_index.places,
    "xformers": packages.xformers,
}


def test_every_table_that_ships_has_a_typed_loader() -> None:
    assert set(tables.table_names()) == set(LOADERS)


@pytest.mark.parametrize("name", LOADERS)
def test_every_row_says_where_it_comes_from_and_when_it_was_read(name: str) -> None:
    for row in LOADERS[name]():
        assert len(row.source) > 8
        assert datetime.date.fromisoformat(row.date) >= datetime.date(2025, 1, 1)


@pytest.mark.parametrize("name", LOADERS)
def test_a_row_has_no_field_that_the_loader_would_drop(name: str) -> None:
    known = set(LOADERS[name]()[0].__struct_fields__)
    for row in tables.table(name).rows:
        assert set(row) <= known, f"unknown in {name}: {set(row) - known}"


@pytest.mark.parametrize("name", LOADERS)
def test_no_row_is_there_twice(name: str) -> None:
    rows = [msgspec.json.encode(row) for row in LOADERS[name]()]
    assert len(rows) == len(set(rows))
