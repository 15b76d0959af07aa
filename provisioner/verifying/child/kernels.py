"""Second stage, one process per GPU: numbers first, then speed; ends early once the device is lost."""

from __future__ import annotations

import functools
from typing import Any

import torch

from provisioner.verifying.child.cases import Case, build_cases
from provisioner.verifying.child.interfaces import Interface, find_interfaces
from provisioner.verifying.child.kv_cache import measure_cache
from provisioner.verifying.child.numerics import make_inputs, measure
from provisioner.verifying.child.protocol import Ended, Reporter
from provisioner.verifying.child.speed import time_attention


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Measure every interface that is there; report the plan first, so that what a crash swallowed can be named."""
    device = job["device"]
    found = find_interfaces(job["expect"]["attention"], device)
    plans = [(interface, _cases(interface, job)) for interface in found]
    names = [f"{interface.family}: {case.name}" for interface, cases in plans for case in cases]
    reporter.emit("plan", interfaces=[f"{i.family} {i.version}" for i in found], names=names)
    if not found:
        raise RuntimeError(f"no {job['expect']['attention']} functions are there to verify")
    for interface, cases in plans:
        for case in cases:
            body = functools.partial(_measured, interface, case, device)
            name = f"{interface.family}: {case.name}"
            outcome = reporter.check(name, interface.named(case.call), body, **_refusal(interface, case))
            if outcome["status"] == "raised":
                _still_alive(device)
    if job["speed"]:
        time_attention(found, job, reporter)


def _measured(interface: Interface, case: Case, device: str) -> dict[str, Any]:
    inputs = make_inputs(case, device)
    return (measure_cache if case.call == "kvcache" else measure)(interface, case, inputs)


def _cases(interface: Interface, job: dict[str, Any]) -> list[Case]:
    claims = dict(job["expect"])
    if interface.claims is not None:
        claims.update(interface.claims)
        claims["dtypes"] = [dtype for dtype in claims["dtypes"] if dtype in job["expect"]["dtypes"]] or ["fp16"]
    if interface.generation == 0 and job["mode"] == "quick":
        # What training takes: cuDNN compiles for 1 to 2 s at each kernel's first call (H100, 2026-11-27). Full takes all.
        claims["dtypes"], claims["head_dims"] = claims["dtypes"][-1:], claims["head_dims"][-1:]
    expect = {**claims, "grouped": interface.grouped}
    return build_cases(expect, interface.calls, generation=interface.generation, mode=job["mode"])


def _refusal(interface: Interface, case: Case) -> dict[str, str]:
    """Return what `Reporter.check` is told of the case: that it must be refused, that it may be, or nothing."""
    if case.refused is not None:
        return {"refused": case.refused, "refusal": "required"}
    return {"refused": interface.family, "refusal": "allowed"} if interface.optional else {}


def _still_alive(device: str) -> None:
    """Raise `Ended` when the last error took the CUDA context with it (an illegal access does, a refusal does not)."""
    if device != "cuda":
        return
    try:
        torch.cuda.synchronize()
        torch.zeros(1, device=device).add_(1).item()
    except RuntimeError as error:
        raise Ended(f"the device no longer answers: {error}") from error
