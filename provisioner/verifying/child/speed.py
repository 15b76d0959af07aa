"""How fast: medians of CUDA-event times of each installed attention and of torch's own backends, forward and with backward.

The arithmetic of attention is 4·batch·heads·queries·keys·head dim operations forward, half of it under a causal mask, and 2.5 times as much
backward (five matrix products against two); TFLOP/s are that count over the time, as flash-attn's own benchmark reckons.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from provisioner.verifying.child.cases import Case
from provisioner.verifying.child.interfaces import BACKENDS, Interface, call, sdpa
from provisioner.verifying.child.protocol import Reporter

LENGTHS = {"quick": (1024, 4096), "full": (512, 1024, 2048, 4096, 8192, 16384)}
TOKENS = 16384
"""Tokens per call: the batch shrinks as the sequence grows, so that all rows do comparable work."""

HEADS = 16
BUDGET_SECONDS = {"quick": 0.12, "full": 0.4}
"""Time for the repeats of one measurement; at least three, at most fifty are made."""

MATH_LIMIT = 4096
"""The math backend keeps every score: at 8192 its memory would say more about the card than about the kernels."""

MATH_COPIES = 6
"""Matrices of scores, in float32, that the math backend holds at once with its backward: 26 GB at 4096 tokens, 6.4 GB at 1024."""


def time_attention(found: list[Interface], job: dict[str, Any], reporter: Reporter) -> None:
    """Report one ``timing`` event per length, pass and implementation; a backend that refuses is left out.

    Nothing is timed where the installed ones share no head dim or dtype.
    """
    expect = _shared(found, job["expect"])
    if not expect["dtypes"] or not expect["head_dims"]:
        return
    job = {**job, "expect": expect}
    dtype = "bf16" if "bf16" in expect["dtypes"] else "fp16"
    head_dim = 128 if 128 in expect["head_dims"] else expect["head_dims"][-1]
    for length in job["lengths"] or LENGTHS[job["mode"]]:
        batch = 1 if job["device"] == "cpu" else max(1, TOKENS // length)
        case = Case("func", dtype, head_dim, (HEADS, HEADS), ((length, length),) * batch, causal=True)
        for name, function in _contestants(found, case, length, job["device"]):
            body = functools.partial(_timings, function, case, job)
            optional = name.startswith("sdpa ") or any(one.family == name and one.optional for one in found)
            lacking = name if optional else None  # torch offers by device; what is installed to be used must run
            outcome = reporter.check(f"speed: {name} n{length}", name, body, refused=lacking, refusal="allowed")
            for row in outcome.get("rows", ()):
                reporter.emit("timing", implementation=name, seqlen=length, dtype=dtype, head_dim=head_dim, **row)


def _shared(found: list[Interface], expect: dict[str, Any]) -> dict[str, Any]:
    """Return ``expect`` as far as every installed attention that must run has it: an FA3 without backward, say. Only equal work can be compared."""
    shared = dict(expect)
    for claims in (interface.claims for interface in found if interface.claims is not None and not interface.optional):
        shared |= {name: [one for one in shared[name] if one in claims[name]] for name in claims}
    return shared


def _contestants(found: list[Interface], case: Case, length: int, device: str) -> list[tuple[str, Callable[..., Any]]]:
    """Return what is timed: each installed attention, then torch's backends."""
    from torch.nn.attention import SDPBackend

    def by_backend(backend: Any, q: Any, k: Any, v: Any) -> Any:
        shape = (len(case.lengths), length, *q.shape[1:])
        return sdpa(*(x.reshape(shape) for x in (q, k, v)), causal=True, backend=backend).reshape(q.shape)

    own = []
    for interface in found:
        kind = "func" if "func" in interface.functions else "varlen"
        timed = Case(kind, case.dtype, case.head_dim, case.heads, case.lengths, causal=True)
        if not interface.family.startswith("sdpa"):
            own.append((interface.family, functools.partial(call, interface, timed, slopes=None)))
    there = {label: getattr(SDPBackend, name) for label, name in BACKENDS.items() if hasattr(SDPBackend, name)}
    if length > MATH_LIMIT or not _math_fits(case, device):
        there.pop("math", None)
    return own + [(f"sdpa {label}", functools.partial(by_backend, backend)) for label, backend in there.items()]


def _math_fits(case: Case, device: str) -> bool:
    """Say whether the scores fit into the GPU's free memory; a card of 16 GB has no room for the math backend at 4096 tokens."""
    scores = sum(queries * keys for queries, keys in case.lengths) * HEADS * 4
    return device != "cuda" or MATH_COPIES * scores <= torch.cuda.mem_get_info()[0]


def _timings(function: Callable[..., Any], case: Case, job: dict[str, Any]) -> dict[str, Any]:
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[case.dtype]
    tokens = sum(pair[0] for pair in case.lengths)
    shape = (tokens, HEADS, case.head_dim)
    q, k, v, grad = (torch.randn(shape, device=job["device"], dtype=dtype) for _ in range(4))
    forward = functools.partial(function, q, k, v)
    rows = [_row("forward", _median_ms(forward, job), case, 1.0)]
    if "backward" in job["expect"]["features"] and case.head_dim in job["expect"]["backward_head_dims"]:
        leaves = [x.requires_grad_() for x in (q, k, v)]

        def both() -> None:
            torch.autograd.grad(function(*leaves), leaves, grad)

        rows.append(_row("forward+backward", _median_ms(both, job), case, 3.5))
    return {"rows": rows}


def _row(name: str, milliseconds: float, case: Case, factor: float) -> dict[str, Any]:
    length = case.lengths[0][0]
    operations = factor * 4 * len(case.lengths) * HEADS * length**2 * case.head_dim / 2
    return {"pass": name, "ms": round(milliseconds, 4), "tflops": round(operations / milliseconds / 1e9, 2)}


def _median_ms(function: Callable[[], Any], job: dict[str, Any]) -> float:
    """Return the median time of one call in milliseconds, after two calls to warm up."""
    timed = _cuda_ms if job["device"] == "cuda" else _wall_ms
    function()
    once = timed(function)
    repeats = max(3, min(50, int(BUDGET_SECONDS[job["mode"]] * 1000 / max(once, 0.001))))
    return statistics.median(timed(function) for _ in range(repeats))


def _cuda_ms(function: Callable[[], Any]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end))


def _wall_ms(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return (time.perf_counter() - started) * 1000
