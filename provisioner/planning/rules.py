"""The rules that reject a candidate, each with a stable code and a reason that teaches.

A rule takes the situation, a draft and the request and returns None or a `Verdict`. The first that speaks decides, so rules go
from what cannot be changed (the GPU, the system) to what can (sources, options). All are pure; where each comes from is said at it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from provisioner.planning.build_rules import build_rule, toolchain_rule
from provisioner.planning.driver_rules import compiles_ptx, driver_objection, jit_covered, uncovered
from provisioner.planning.numbers import covers, minor, numbers
from provisioner.planning.recipe import satisfies
from provisioner.planning.values import Request, Route, Trust
from provisioner.planning.verdict import Verdict

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft

XFORMERS_GLIBC = (2, 28)
"""xformers' wheels since 0.0.28 are manylinux_2_28 (package index, read 2026-11-24)."""

XFORMERS_REFUSES = (0, 0, 30)
"""From here on xformers raises beside a flash-attn outside its range; before, it falls back to torch's own kernels
(xformers/ops/fmha/flash.py of 0.0.29.post3 and 0.0.31.post1, read 2026-11-24)."""


def pin_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """The user's own wishes."""
    if request.python and not covers(request.python, draft.python) and minor(request.python) != draft.python:
        return Verdict("pinned-python", f"Python {request.python} was asked for")
    if request.torch and not covers(request.torch, draft.torch.torch):
        return Verdict("pinned-torch", f"torch {request.torch} was asked for")
    if request.cuda and (draft.torch.cuda is None or not covers(minor(request.cuda), draft.torch.cuda)):
        return Verdict("pinned-cuda", f"CUDA {request.cuda} was asked for")
    if request.flash_attn and (draft.version is None or not covers(request.flash_attn, draft.version)):
        return Verdict("pinned-flash-attn", f"flash-attn {request.flash_attn} was asked for")
    return None


def torch_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does torch itself run here: built for the processor and Python, with kernels for every GPU."""
    torch = draft.torch
    name = f"torch {torch.torch}" + (f" with CUDA {torch.cuda}" if torch.cuda else "")
    if draft.python not in torch.pythons:
        return Verdict("python-unsupported", f"{name} has no build for Python {draft.python}")
    if torch.cuda is None or not situation.gpu_needed:
        return None
    missing = uncovered(situation.capabilities, torch.archs)
    if not missing:
        return None
    if torch.ptx and jit_covered(missing, torch.ptx) and compiles_ptx(situation, torch.cuda):
        return None
    held = ", ".join(arch.sm for arch in torch.archs)
    return Verdict("torch-lacks-arch", f"{name} holds no kernels for {_sms(missing)} (it holds {held})")


def kernel_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does flash-attn have kernels for every GPU: those in the wheel, or those that the release can be compiled for."""
    if draft.wheel is not None:
        missing = uncovered(situation.capabilities, draft.wheel.archs)
        if missing:
            held = ", ".join(arch.sm for arch in draft.wheel.archs) or "none"
            return Verdict("wheel-lacks-arch", f"the wheel holds kernels for {held}, so {_sms(missing)} would find none")
    if draft.release is not None:
        missing = uncovered(situation.capabilities, draft.release.archs)
        if missing:
            return Verdict("release-lacks-arch", f"flash-attn {draft.release.version} has no kernels for {_sms(missing)}")
    condition = draft.stack.not_on
    if condition and any(satisfies(cc, condition) for cc in situation.capabilities):
        return Verdict("not-on-this-gpu", draft.stack.not_on_reason or f"this stack is not for GPUs {condition}")
    return None


def route_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """A stack without flash-attn does not answer a request for it."""
    if draft.route is Route.NONE and (request.flash_attn or request.only_flash_attn) and draft.torch.cuda is not None:
        return Verdict("no-kernels-for-gpu", f"flash-attn was asked for, and no 2.x release has kernels for {situation.key.sm}")
    return None


def driver_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does the driver know this CUDA."""
    objection = driver_objection(situation, draft.torch.cuda) if situation.gpu_needed else None
    return Verdict("driver-too-old", objection) if objection else None


def glibc_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Is the C library new enough for every wheel (#1708, #1762, #2225: `GLIBC_2.32 not found`)."""
    have = situation.glibc
    trimmed, aside = draft.stack.trimmed, draft.stack.platform is not None or request.only_flash_attn
    if have is None:
        return None if not trimmed or aside or _too_old_for_unsloth(draft) else _TRIMMED
    shown = _dotted(have)
    torch_floor = draft.torch.glibc
    if torch_floor and have < torch_floor:
        return Verdict("glibc-too-old", f"torch {draft.torch.torch} needs glibc {_dotted(torch_floor)}; this system has {shown}")
    wheel = draft.wheel
    if wheel is not None and wheel.glibc and have < wheel.glibc:
        text = f"the wheel needs glibc {_dotted(wheel.glibc)}; this system has {shown} (`GLIBC_{_dotted(wheel.glibc)} not found`)"
        return Verdict("glibc-too-old", text)
    if draft.stack.xformers and situation.processor == "x86_64" and have < XFORMERS_GLIBC:
        return Verdict("glibc-too-old", f"xformers {draft.stack.xformers} needs glibc 2.28; this system has {shown}")
    if trimmed and have >= XFORMERS_GLIBC and not aside and not _too_old_for_unsloth(draft):
        return _TRIMMED
    return None


_TRIMMED = Verdict("leaves-unsloth-out", "this stack leaves Unsloth out, for systems with a glibc below 2.28")


def abi_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Do wheel and torch use the same C++ ABI, whatever the file name says."""
    wheel, torch = draft.wheel, draft.torch
    if wheel is None or wheel.abi is None or torch.cxx11_abi is None:
        return None
    if wheel.abi is False and mislabelled_abi(wheel.version, wheel.torch):
        text = "the wheel is labelled cxx11abiFALSE but was built against torch 2.6+cu126, whose ABI is TRUE (#1783, #1717)"
        return Verdict("abi-mislabelled", text)
    if wheel.abi is not torch.cxx11_abi:
        label = str(wheel.abi).upper()
        text = f"the wheel is cxx11abi{label}, torch {torch.torch} is not: undefined symbol on import"
        return Verdict("abi-mismatch", text)
    return None


def mislabelled_abi(version: str, torch: str) -> bool:
    """Say whether the ABI label of an official wheel is wrong: 2.8.x for torch 2.6 (flash-attention #1783, #1717)."""
    return numbers(version)[:2] == (2, 8) and numbers(torch)[:2] == (2, 6)


def xformers_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does xformers accept the flash-attn beside it (unsloth #2763: `Requires Flash-Attention version >=2.7.1,<=2.8.2`)."""
    xformers, version = draft.stack.xformers, draft.version
    if xformers is None or version is None or situation.processor != "x86_64" or draft.stack.ignore_xformers_range:
        return None
    if numbers(version)[:1] == (1,):
        text = f"flash-attn {version} has the 1.x API: xformers imports flash_attn and fails beside it"
        return Verdict("xformers-range", text)
    span = catalog.xformers_range(xformers)
    if span is None or numbers(xformers) < XFORMERS_REFUSES or catalog.accepts(xformers, version):
        return None
    text = f"xformers {xformers} takes flash-attn {span[0]} to {span[1]} and refuses to import beside {version}"
    return Verdict("xformers-range", text)


def trust_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Who made the wheel, and is its hash known."""
    wheel = draft.wheel
    if wheel is None:
        return None
    if wheel.trust is Trust.COMMUNITY and not situation.allow_community:
        return Verdict("community-not-allowed", "built by a third party; --allow-community accepts such wheels")
    if request.offline and wheel.sha256 is None:
        return Verdict("hash-unknown", "its sha256 is not known, and offline there is no way to learn it")
    return None


def source_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does every place answer that this candidate is fetched from."""
    for name, what in needed_sources(situation, draft):
        if name in situation.unreachable:
            return Verdict("source-unreachable", f"{what} comes from {situation.unreachable[name]}, which does not answer")
    return None


def needed_sources(situation: Situation, draft: Draft) -> list[tuple[str, str]]:
    """Return the names of the sources that a candidate needs, each with what comes from there."""
    needed = [("package-index", "the Python packages")]
    if draft.torch.index is not None:
        needed.append(("torch-index", f"torch {draft.torch.torch} ({draft.torch.index})"))
    if draft.wheel is not None and draft.wheel.trust in (Trust.OFFICIAL, Trust.COMMUNITY):
        needed.append(("releases", "the wheel"))
    if situation.backend == "conda":
        needed.append(("conda-channel", "Python"))
    return needed


RULES: tuple[Callable[[Situation, Draft, Request, Catalog], Verdict | None], ...] = (
    torch_rule,
    kernel_rule,
    pin_rule,
    route_rule,
    driver_rule,
    glibc_rule,
    abi_rule,
    xformers_rule,
    build_rule,
    trust_rule,
    source_rule,
    toolchain_rule,
)


def judge(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Return why a draft is rejected, None when nothing speaks against it."""
    for rule in RULES:
        verdict = rule(situation, draft, request, catalog)
        if verdict is not None:
            return verdict
    return None


def _too_old_for_unsloth(draft: Draft) -> bool:
    """Unsloth needs torch 2.4 (its requirements, 2026.10.9)."""
    return numbers(draft.torch.torch) < (2, 4)


def _sms(capabilities: tuple) -> str:  # type: ignore[type-arg]
    return ", ".join(cc.sm for cc in capabilities)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(number) for number in version)
