"""The route of ``doctor --report``'s plan agrees with what resolved, or would resolve, the report's thread."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner.cli.doctor import _plan
from provisioner.diagnosing.reports import diagnose_report
from tests.diagnosing.scoring import cases
from tests.planning.test_cases import ROUTES

EXPLAINED = {
    "086-arch-linux-driver510": "a 2080 Ti stands beside the 3090, and no flash-attn serves both: the plan is for all the GPUs of a machine",
    "160-dll-load-failed-rtx2070-nvcc111": "the GPU is named only in the thread's title, and the error is cut off",
    "gh200-vista-nvcc-124-aarch64": "on Arm the GPU decides (Jetson, Grace, or none), and it is not named",
    "thor-issue-form-no-kernel": "Python and torch are not stated, and no torch or flash-attn of the catalog holds kernels for Thor (11.0)",
}
"""Reports whose plan takes another route than their thread, and why that is right of what they state."""

FOLDERS = (Path(__file__).with_name("reports"), Path(__file__).resolve().parents[3] / "shared" / "cases" / "dev")
CASES = [case for folder in FOLDERS for case in cases(folder) if case[2].get("decision") in ROUTES]


def route_of(text: str) -> str:
    machine, findings = diagnose_report(text)
    plan, _ = _plan(machine, findings, False, pasted=True)
    return str(plan.route) if plan else "none"


@pytest.mark.parametrize(("name", "text", "expected"), CASES, ids=[name for name, _, _ in CASES])
def test_the_route_agrees_with_the_thread_or_is_explained(name: str, text: str, expected: dict[str, Any]) -> None:
    route = route_of(text)
    assert (route in ROUTES[expected["decision"]]) is (name not in EXPLAINED), route


def test_at_most_one_in_20_routes_has_to_be_explained() -> None:
    for folder in FOLDERS:
        names = {name for name, _, expected in cases(folder) if expected.get("decision") in ROUTES}
        assert len(names & set(EXPLAINED)) <= 0.05 * len(names)


def test_an_empty_report_has_no_plan() -> None:
    assert route_of("") == "none"


def test_a_refusal_that_names_no_gpu_has_no_plan() -> None:
    assert route_of("RuntimeError: FlashAttention only supports Ampere GPUs or newer.\n") == "none"
