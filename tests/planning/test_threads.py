"""Machines of further public threads, and what worked there in the end: the plan's route, and its flash-attn where the thread decides it.

Each row was judged by hand from its thread before it was planned: ``routes`` carry out what worked, ``version`` is the flash-attn that did,
``never`` the wheel that did not. ``pins`` are the versions that the reporter was bound to.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.errors import NoRoute
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.report_request import request_for_report
from provisioner.planning.values import Plan, Request
from tests.planning.test_cases import machine_of

THREADS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "threads.json").read_text(encoding="utf-8"))

EXPLAINED = {
    "https://github.com/cjeen/LoRAEdit/issues/8": "the plan takes torch 2.6 for CUDA 12.6, beside which 2.8.3 loads; the reporter had it for 12.4",
    "https://github.com/Dao-AILab/flash-attention/issues/1644": "what failed has the old C++ ABI; the plan's wheel of that version has the new one",
}
"""Disagreements, each with its reason. A thread here that agrees after all fails the test."""


def plan_of(thread: dict[str, Any]) -> Plan | None:
    """Return the plan for a thread's machine, None where it is refused."""
    machine = machine_of(thread["facts"])
    usual = request_for_report(machine)
    request = Request(build=usual.build, allow_community=usual.allow_community, **thread.get("pins", {}))
    try:
        return make_plan(machine, request, load_catalog())
    except NoRoute:
        return None


def objection(thread: dict[str, Any]) -> str | None:
    """Return where the plan differs from what worked, None where it agrees."""
    plan = plan_of(thread)
    route = str(plan.route) if plan else "none"
    version = plan.flash_attn.version if plan and plan.flash_attn else None
    if route not in thread["routes"]:
        return f"route {route}"
    if thread.get("version") not in (None, version) or (route == "wheel" and version == thread.get("never")):
        return f"flash-attn {version}"
    return None


def test_more_than_nine_in_ten_threads_agree() -> None:
    differing = {thread["url"]: objection(thread) for thread in THREADS if objection(thread)}
    assert len(THREADS) >= 25
    assert len(differing) / len(THREADS) < 0.1, differing


@pytest.mark.parametrize("thread", THREADS, ids=lambda thread: "-".join(str(thread["url"]).split("/")[3::3]))
def test_each_thread_agrees_or_is_explained(thread: dict[str, Any]) -> None:
    assert (objection(thread) is None) is (thread["url"] not in EXPLAINED), objection(thread)
