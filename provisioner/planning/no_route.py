"""The refusal when no candidate fits: the reasons, grouped, and the nearest thing that works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.codec import to_builtins
from provisioner.errors import NoRoute, ProvisionError, SourceUnreachable
from provisioner.machine.facts import Machine
from provisioner.planning.judging import Judgement, judge_all
from provisioner.planning.numbers import numbers
from provisioner.planning.refusals import old_driver_hint
from provisioner.planning.values import BuildChoice, Candidate, Request, Route

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.stock import Draft

PINS = ("cuda", "python", "torch", "flash_attn")
PIN_CODES = ("pinned-python", "pinned-torch", "pinned-cuda", "pinned-flash-attn")
SHOWN = 4
"""How many reasons stand in the message; the details carry all."""


def no_route(
    machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, candidates: tuple[Candidate, ...]
) -> ProvisionError:
    """Return the error for a machine on which every candidate was rejected."""
    reasons = [verdict for _, verdict in judgement.rejected if verdict.code not in PIN_CODES]
    counts = Counter(verdict.code for verdict in reasons)
    examples = {verdict.code: verdict.reason for verdict in reversed(reasons)}
    details = {"candidates": to_builtins(candidates), "reasons": dict(counts)}
    if counts and set(counts) == {"source-unreachable"}:
        place = judgement.situation.unreachable
        where = ", ".join(sorted(set(place.values())))
        hints = ["provision detect shows what answers", "set a proxy or an index mirror, or use --offline with a bundle"]
        return SourceUnreachable(f"no source of packages answers: {where}", why=examples["source-unreachable"], hints=hints)
    why = "; ".join(f"{examples[code]} [{code}, {count}×]" for code, count in counts.most_common(SHOWN))
    hints = [*nearest(machine, request, catalog, judgement), *ways_out(judgement, counts)]
    what = "nothing that exists serves this machine" + (" with the versions asked for" if _pinned(request) else "")
    return NoRoute(what, why=why or "no build of torch has the versions asked for", hints=hints, details=details)


def nearest(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement) -> Iterator[str]:
    """Yield what works when one of the user's wishes is given up, nearest version first."""
    for pin in PINS:
        wish = getattr(request, pin)
        if wish is None:
            continue
        accepted = judge_all(machine, _without(request, pin), catalog).accepted
        if accepted:
            best = min(accepted, key=lambda draft: _distance(_version(draft, pin), wish))
            yield f"without --{pin.replace('_', '-')} {wish}, {_named(best)} works: {_options(best, pin)}"
    if sum(getattr(request, pin) is not None for pin in PINS) > 1:
        accepted = judge_all(machine, _without(request, *PINS), catalog).accepted
        if accepted:
            yield f"without any of them, {_named(accepted[0])} works"


def ways_out(judgement: Judgement, counts: Counter[str]) -> Iterator[str]:
    """Yield what would have to change on the machine or in the request."""
    here = judgement.situation
    if "driver-too-old" in counts and (hint := old_driver_hint(here)):
        yield hint
    elif "driver-too-old" in counts:
        yield "update the driver: 525.60.13 runs every CUDA 12 build, 580.65.06 every CUDA 13 build"
    if "build-not-asked" in counts or "build-not-allowed" in counts:
        yield "allow compiling: --build"
    if "community-not-allowed" in counts:
        yield "accept wheels that others built: --allow-community"
    if "glibc-too-old" in counts:
        yield "use a system (or container) with a newer glibc: Ubuntu 22.04 has 2.35, Debian 12 has 2.36"
    if "nvcc-unavailable" in counts:
        yield "bring a compiler: a conda channel that answers, or a CUDA toolkit on the machine"
    if "compiler-missing" in counts or "host-compiler-too-new" in counts:
        yield "install a g++ that nvcc accepts (apt install g++-12)"
    if "python-headers-missing" in counts:
        yield "install Python's headers (apt install python3-dev), or use --backend conda"
    if "python-unavailable" in counts:
        yield "use a Python that is here, or --backend conda, which brings its own"
    if here.build is BuildChoice.ALWAYS and here.key.major < 8:
        yield "leave --build and --flash-attn away: Unsloth runs on xformers here"


def _without(request: Request, *pins: str) -> Request:
    """Return the request without some of its versions."""
    return replace(
        request,
        python=None if "python" in pins else request.python,
        torch=None if "torch" in pins else request.torch,
        cuda=None if "cuda" in pins else request.cuda,
        flash_attn=None if "flash_attn" in pins else request.flash_attn,
    )


def _pinned(request: Request) -> bool:
    return any(getattr(request, pin) is not None for pin in PINS)


def _version(draft: Draft, pin: str) -> str:
    return {
        "torch": draft.torch.torch,
        "cuda": draft.torch.cuda or "",
        "python": draft.python,
        "flash_attn": draft.version or "",
    }[pin]


def _distance(version: str, wish: str) -> tuple[int, ...]:
    have, want = numbers(version), numbers(wish)
    return tuple(abs(a - b) for a, b in zip((*have, 0, 0, 0), (*want, 0, 0, 0), strict=False))[:3]


def _named(draft: Draft) -> str:
    flash = f", flash-attn {draft.version}" if draft.route is not Route.NONE else " without flash-attn"
    cuda = f" with CUDA {draft.torch.cuda}" if draft.torch.cuda else ""
    return f"torch {draft.torch.torch}{cuda} on Python {draft.python}{flash}"


def _options(draft: Draft, pin: str) -> str:
    option = f"--{pin.replace('_', '-')}"
    return f"{option} {_version(draft, pin)}" if _version(draft, pin) else f"leave {option} away"
