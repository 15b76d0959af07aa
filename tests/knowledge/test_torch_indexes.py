"""Every index that a plan can name has an address."""

from __future__ import annotations

from provisioner.knowledge import torch_builds
from provisioner.knowledge.torch_indexes import torch_index_url, torch_indexes
from provisioner.planning.catalog import load_catalog


def test_every_index_that_serves_a_torch_build_has_an_address() -> None:
    named = {build.index for build in torch_builds.builds()}
    named |= {stack.torch_index for recipe in load_catalog().recipes for stack in recipe.stacks}
    assert {name for name in named - {None} if torch_index_url(name or "") is None} == set()


def test_an_index_that_is_not_known_has_none() -> None:
    assert torch_index_url("cu999") is None


def test_each_index_is_named_once_and_reached_encrypted() -> None:
    rows = torch_indexes()
    assert len({row.index for row in rows}) == len(rows)
    assert all(row.url.startswith("https://") and not row.url.endswith("/") for row in rows)
