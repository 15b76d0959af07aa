"""What the rules' tests share: everything that planning knows, and a plan from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from provisioner.machine.facts import Machine
from provisioner.planning.catalog import Catalog, load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import Plan, Request


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The shipped recipes and knowledge."""
    return load_catalog()


@pytest.fixture
def plan(catalog: Catalog) -> Callable[..., Plan]:
    """``plan(machine, torch="2.9", …)``: the plan of that machine for what is asked."""

    def make(machine: Machine, **request: object) -> Plan:
        return make_plan(machine, Request(**request), catalog)  # type: ignore[arg-type]

    return make
