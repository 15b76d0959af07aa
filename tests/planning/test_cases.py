"""Real machines from issue threads: the plan's route agrees with what resolved the thread."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import NoRoute
from provisioner.machine.facts import Driver, Gpu, Machine, Platform, Software
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.report_request import request_for_report

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "cases.json").read_text(encoding="utf-8"))

ROUTES = {
    "prebuilt": {"wheel"},
    "prebuilt-offline": {"wheel"},
    "fix-env-then-prebuilt": {"wheel"},
    "prebuilt-community": {"wheel", "source"},
    "prebuilt-or-source": {"wheel", "source"},
    "prebuilt-old-or-source": {"wheel", "source"},
    "source-limited-jobs": {"wheel", "source"},
    "fix-env-then-build": {"wheel", "source"},
    "source": {"source"},
    "fallback": {"shim", "none", "source"},
    "impossible": {"none", "shim"},
    "rocm-path": {"none", "shim"},
}
"""Decision of a thread → routes that carry it out. ``need-more-info`` and ``fix-env-first`` are not scored."""

EXPLAINED = {
    "086-arch-linux-driver510": "an RTX 3090 beside an RTX 2080 Ti: one plan for both runs xformers; flash-attn needs the 3090 alone",
    "182-v100-bagel-274": "the V100 is in the thread only, so the facts name no GPU",
    "184-is-sm75-old-wording": "the Turing GPU shows only in the error text, so the facts name no GPU",
    "160-dll-load-failed-rtx2070-nvcc111": "the RTX 2070 is in the thread only, so the facts name no GPU",
}
"""Disagreements, each with its reason. A case here that agrees after all fails the test."""


def machine_of(facts: dict[str, Any]) -> Machine:
    """Return the machine that a report's facts state; in case 200 the wording of the error states the C library (musl)."""
    gpus = tuple(
        Gpu(gpu["name"], gpu.get("compute_capability"), source="report", vendor="amd" if "AMD" in gpu["name"] else "nvidia")
        for gpu in facts.get("gpus", ())
        for _ in range(gpu.get("count") or 1)
    )
    os = facts.get("os")
    wsl = {True: "2", False: "no", None: None}[facts.get("wsl")]
    processor = facts.get("arch")
    platform = Platform(os=os, glibc=facts.get("glibc"), wsl=wsl, machine=processor, musl=facts.get("musl"))
    software = Software(
        python=facts.get("python"),
        torch=facts.get("torch"),
        torch_cuda=facts.get("torch_cuda"),
        nvcc=facts.get("nvcc"),
        flash_attn=facts.get("flash_attn"),
    )
    return Machine(gpus, Driver(facts.get("driver"), facts.get("driver_cuda")), platform, software=software)


def route_of(case: dict[str, Any]) -> str:
    """Return the route of the plan for a case; a refusal is ``none``."""
    machine = machine_of(case["facts"])
    try:
        return str(make_plan(machine, request_for_report(machine), load_catalog()).route)
    except NoRoute:
        return "none"


SCORED = [case for case in CASES if case["decision"] in ROUTES]


def test_at_least_95_in_100_threads_agree() -> None:
    agreeing = [case["case"] for case in SCORED if route_of(case) in ROUTES[case["decision"]]]
    assert len(agreeing) / len(SCORED) >= 0.95, sorted({case["case"] for case in SCORED} - set(agreeing))


@pytest.mark.parametrize("case", SCORED, ids=lambda case: str(case["case"]))
def test_each_thread_agrees_or_is_explained(case: dict[str, Any]) -> None:
    agrees = route_of(case) in ROUTES[case["decision"]]
    assert agrees is (case["case"] not in EXPLAINED), route_of(case)
