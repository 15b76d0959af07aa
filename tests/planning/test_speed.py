"""Planning is fast enough to be asked for every host of a fleet."""

from __future__ import annotations

import random
import time

import pytest

from provisioner.errors import ProvisionError
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import Request
from tests.planning.machines import random_machine

MACHINES = 2_000


@pytest.mark.slow
def test_a_thousand_machines_a_second_on_one_core() -> None:
    chance, catalog = random.Random(7), load_catalog()
    machines = [random_machine(chance) for _ in range(MACHINES)]
    for warm in (True, False):
        started = time.process_time()
        for machine in machines[: 100 if warm else MACHINES]:
            try:
                make_plan(machine, Request(), catalog)
            except ProvisionError as refusal:
                assert refusal.exit_code in (3, 4)  # noqa: PT017 - a refusal is an answer as well
        seconds = time.process_time() - started
    assert MACHINES / seconds >= 1_000
