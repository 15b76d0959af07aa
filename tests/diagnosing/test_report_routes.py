"""The route of the plan for the machine that a report shows agrees with what resolved, or would resolve, its thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner.diagnosing.reports import diagnose_report
from provisioner.errors import ProvisionError
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.report_request import request_for_report
from tests.diagnosing.scoring import cases
from tests.planning.test_cases import ROUTES

EXPLAINED = {
    "mi300x-padded-lines": "no device is listed, and the ROCm build of torch is all that is known",
    "thor-issue-form-no-kernel": "neither Python nor torch is stated, and no torch of the catalog has wheels for Thor (11.0)",
}
"""Reports whose plan takes another route than their thread, and why that is right of what they state."""

CASES = [case for case in cases(Path(__file__).with_name("reports")) if case[2].get("decision") in ROUTES]


def route_of(machine: Machine) -> str:
    try:
        return str(make_plan(machine, request_for_report(machine), load_catalog()).route)
    except ProvisionError:
        return "none"


@pytest.mark.parametrize(("name", "text", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_the_route_agrees_with_the_thread_or_is_explained(name: str, text: str, expected: dict[str, Any]) -> None:
    machine, _ = diagnose_report(text)
    if not machine.gpus and name not in EXPLAINED and expected["decision"] == "fallback":
        pytest.skip("no GPU is named: a plan would be for any")
    route = route_of(machine)
    assert (route in ROUTES[expected["decision"]]) is (name not in EXPLAINED), route


def test_at_most_one_in_20_routes_has_to_be_explained() -> None:
    assert len(EXPLAINED) <= 0.05 * len(CASES)
