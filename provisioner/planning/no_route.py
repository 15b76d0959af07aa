"""The refusal when no candidate fits: the reasons, grouped, and the nearest thing that works."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.codec import to_builtins
from provisioner.errors import NoRoute, ProvisionError, SourceUnreachable
from provisioner.machine.facts import Machine
from provisioner.planning.judging import Judgement, judge_all, would_plan
from provisioner.planning.numbers import numbers
from provisioner.planning.values import Candidate, Request, Route
from provisioner.planning.ways_out import EASIEST_FIRST, ways_out

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.stock import Draft

PINS = ("cuda", "python", "torch", "flash_attn")
PIN_CODES = ("pinned-python", "pinned-torch", "pinned-cuda", "pinned-flash-attn")
FLAW_CODES = frozenset(
    (
        "abi-mislabelled",
        "abi-mismatch",
        "xformers-range",
        "unsloth-unsupported",
        "python-unsupported",
        "leaves-unsloth-out",
        "leaves-flash-attn-out",
    )
)
"""Rejections that hold on every machine, so they explain nothing about this one."""

SHOWN = 4
"""How many reasons stand in the message; the details carry all."""


def no_route(
    machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, candidates: tuple[Candidate, ...]
) -> ProvisionError:
    """Return the error for a machine on which every candidate was rejected."""
    reasons = [verdict for draft, verdict in judgement.rejected if verdict.code not in PIN_CODES]
    counts = Counter(verdict.code for verdict in reasons)
    examples = {verdict.code: verdict.reason for verdict in reversed(reasons)}
    details = {"candidates": to_builtins(candidates), "reasons": dict(counts)}
    if _only_sources_lack(machine, request, catalog, judgement, counts):
        where = ", ".join(sorted(set(judgement.situation.unreachable.values())))
        hints = ["provision detect shows what answers", "set a proxy or an index mirror, or use --offline with a bundle"]
        return SourceUnreachable(
            f"no source of packages answers: {where}", why=examples["source-unreachable"], hints=hints, details=details
        )
    shown = sorted(counts, key=lambda code: EASIEST_FIRST.index(code) if code in EASIEST_FIRST else len(EASIEST_FIRST))
    shown = [code for code in shown if code not in FLAW_CODES] or [code for code in shown if code != "leaves-flash-attn-out"]
    why = "; ".join(f"{examples[code]} [{code}, {counts[code]}×]" for code in shown[:SHOWN])
    hints = [*nearest(machine, request, catalog, judgement), *ways_out(machine, request, catalog, judgement, counts)]
    hints = hints or _without_pins(machine, request, catalog)
    what = "nothing that exists serves this machine" + (" with the versions asked for" if _pinned(request) else "")
    return NoRoute(what, why=_other_line(request) or why or _nothing_known(request), hints=hints, details=details)


def _without_pins(machine: Machine, request: Request, catalog: Catalog) -> list[str]:
    """Return what to do where giving up one wish does not help: what stands in the way of all, else where the reasons are listed."""
    explain = "provision plan --explain shows every candidate with the reason against it"
    if not _pinned(request):
        return [explain]
    free = _without(request, *PINS)
    judgement = judge_all(machine, free, catalog)
    counts = Counter(verdict.code for _, verdict in judgement.rejected)
    return [
        "without these versions it would be refused as well; for that:",
        *ways_out(machine, free, catalog, judgement, counts),
        explain,
    ]


def _only_sources_lack(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, counts: Counter[str]) -> bool:
    """Say whether places that do not answer are the reason: the only one, or the package index, without which nothing can be had."""
    if "source-unreachable" not in counts:
        return False
    if set(counts) - FLAW_CODES == {"source-unreachable"}:
        return True
    return "package-index" in judgement.situation.unreachable and would_plan(replace(machine, sources=()), request, catalog)


def _other_line(request: Request) -> str | None:
    """Return what a flash-attn of another line than 2.x is, None where none is asked for."""
    line = numbers(request.flash_attn or "")[:1]
    if line == (1,):
        return "flash-attn 1.x has another API: Unsloth and transformers cannot use it, and `import xformers.ops` fails beside it"
    if line in ((3,), (4,)):
        return (
            "FlashAttention 3 and 4 are packages of their own (flash_attn_3, flash-attn-4), which no plan installs: Unsloth and "
            'transformers\' "flash_attention_2" use flash-attn 2'
        )
    return None


def _nothing_known(request: Request) -> str:
    if not _pinned(request):
        return "the recipe has no stack for this kind of platform"
    return "no torch build, wheel or release is known that has all the versions asked for"


def nearest(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement) -> Iterator[str]:
    """Yield what works when one of the user's wishes is given up, nearest version first."""
    for pin in PINS:
        wish = getattr(request, pin)
        if wish is None:
            continue
        accepted = judge_all(machine, _without(request, pin), catalog).accepted
        if accepted:
            versioned = [draft for draft in accepted if _version(draft, pin)] or accepted
            other = pin == "flash_attn" and _other_line(request) is not None
            best = accepted[0] if other else min(versioned, key=lambda draft: _distance(_version(draft, pin), wish))
            yield f"without --{pin.replace('_', '-')} {wish}, {_named(best)} works: {_options(best, pin)}"
    if sum(getattr(request, pin) is not None for pin in PINS) > 1:
        accepted = judge_all(machine, _without(request, *PINS), catalog).accepted
        if accepted:
            yield f"without any of them, {_named(accepted[0])} works"


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


def _distance(version: str, wish: str) -> int:
    """Return how far apart two versions are, a major step counting more than any minor one."""
    have, want = ((*numbers(text), 0, 0, 0)[:3] for text in (version, wish))
    return abs(sum((a - b) * weight for a, b, weight in zip(have, want, (10_000, 100, 1), strict=True)))


def _named(draft: Draft) -> str:
    flash = f", flash-attn {draft.version}" if draft.route is not Route.NONE else " without flash-attn"
    cuda = f" with CUDA {draft.torch.cuda}" if draft.torch.cuda else ""
    return f"torch {draft.torch.torch}{cuda} on Python {draft.python}{flash}"


def _options(draft: Draft, pin: str) -> str:
    option = f"--{pin.replace('_', '-')}"
    return f"{option} {_version(draft, pin)}" if _version(draft, pin) else f"leave {option} away"
