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
from provisioner.planning.refusals import VOLTA, driver_hint
from provisioner.planning.values import BuildChoice, Candidate, Request, Route

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

CHANGES = {
    "jetpack": "bring the board to JetPack 6 (Jetson Linux 36), or take the torch and flash-attn that jetson-ai-lab offers for its own release",
    "python-headers-missing": "install Python's headers (apt install python3-dev), or use --backend conda",
    "compiler-missing": "install a C++ compiler (apt install g++), or use --backend conda",
    "host-compiler-too-new": "install an older g++ that nvcc accepts (apt install g++-12), or use --backend conda",
    "python-unavailable": "use a Python that is here, or --backend conda, which brings its own",
    "nvcc-unavailable": "bring an nvcc: a conda channel that answers, or a CUDA toolkit of that major on the machine",
    "glibc-too-old": "use a system (or container) with a newer glibc: Ubuntu 22.04 has 2.35, Debian 12 has 2.36",
}
"""What the user can do about a rejection."""

EASIEST_FIRST = (
    "python-headers-missing",
    "compiler-missing",
    "host-compiler-too-new",
    "python-unavailable",
    "unsloth-unsupported",
    "build-not-asked",
    "build-not-allowed",
    "hash-unknown",
    "no-kernels-for-gpu",
    "jetpack",
    "driver-too-old",
    "glibc-too-old",
    "source-unreachable",
    "nvcc-unavailable",
    "nvcc-lacks-arch",
    "release-lacks-arch",
    "triton-lacks-arch",
    "torch-lacks-arch",
    "torch-archs-unknown",
    "wheel-lacks-arch",
    "not-on-this-gpu",
    "community-not-allowed",
)
"""Rejections from what the user can change most easily; the message names the first ones."""

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
    hints = hints or ["provision plan --explain shows every candidate with the reason against it"]
    what = "nothing that exists serves this machine" + (" with the versions asked for" if _pinned(request) else "")
    return NoRoute(what, why=_other_line(request) or why or _nothing_known(request), hints=hints, details=details)


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


def ways_out(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, counts: Counter[str]) -> Iterator[str]:
    """Yield what would have to change, the easiest first. Options are named only where they really help."""
    here = judgement.situation
    for code in EASIEST_FIRST:
        if code in counts and code in CHANGES:
            yield CHANGES[code]
    if counts.keys() & {"build-not-asked", "build-not-allowed"} and would_plan(
        machine, replace(request, build=BuildChoice.ALWAYS), catalog
    ):
        yield "allow compiling: --build"
    if "unsloth-unsupported" in counts and would_plan(machine, replace(request, only_flash_attn=True), catalog):
        yield "leave Unsloth out: --only flash-attn"
    if "community-not-allowed" in counts and would_plan(machine, replace(request, allow_community=True), catalog):
        yield "accept wheels that others built: --allow-community"
    if "driver-too-old" in counts:
        yield driver_hint(here)
    if "release-lacks-arch" in counts:
        missing = here.capabilities[-1]
        yield f"torch's own SDPA needs no flash-attn; FlashAttention 4 (flash-attn-4) is the line to watch for {missing.sm}"
    if "build-asked" in counts and VOLTA in here.capabilities:
        yield "a source tree that you know to hold Volta kernels: provision build --source TREE --arch sm_70"
    if "no-kernels-for-gpu" in counts and here.key.major < 8:
        yield "leave --build, --flash-attn and the kernel options away: Unsloth needs no flash-attn below compute capability 8.0"


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
