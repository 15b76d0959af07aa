"""The rules that reject a candidate on a machine, each with a stable code and a reason that teaches.

`STACK_RULES` see what all candidates of one stack share (torch, CUDA, route), so they run once for each stack; `DRAFT_RULES`
see the single wheel and Python. The first rule that speaks decides, so they go from what cannot be changed (the GPU, the
system) to what can (sources, options). All are pure; where each comes from is said at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.planning.build_rules import build_rule, not_compilable, nvcc_rule, python_rule
from provisioner.planning.driver_rules import compiles_ptx, driver_objection, jit_covered, uncovered, wheel_driver
from provisioner.planning.kernels import UNSLOTH, lacking
from provisioner.planning.numbers import numbers
from provisioner.planning.recipe import UNSLOTH_TORCH, satisfies
from provisioner.planning.values import BuildChoice, Request, Route, Trust
from provisioner.planning.verdict import Verdict

if TYPE_CHECKING:
    from provisioner.capability import ComputeCapability
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft

XFORMERS_GLIBC = (2, 28)
"""xformers' wheels since 0.0.28 are manylinux_2_28 (package index, read 2026-11-24)."""


def torch_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does torch have kernels for every GPU: binaries, or PTX that the driver is new enough to compile."""
    torch = draft.torch
    if torch.cuda is None or not situation.gpu_needed:
        return None
    missing = uncovered(situation.capabilities, torch.archs)
    if not missing or (torch.ptx and jit_covered(missing, torch.ptx) and compiles_ptx(situation, torch.cuda)):
        return None
    if not torch.archs:
        return Verdict(
            "torch-archs-unknown", f"which GPUs torch {torch.torch} with CUDA {torch.cuda} has kernels for is not known"
        )
    held = ", ".join(arch.sm for arch in torch.archs)
    return Verdict(
        "torch-lacks-arch", f"torch {torch.torch} with CUDA {torch.cuda} holds no kernels for {_sms(missing)} (it holds {held})"
    )


def triton_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does triton's own assembler know every GPU: Unsloth's kernels and torch.compile's go through it (triton#8539, #8485).

    flash-attn alone does without.
    """
    version = draft.stack.triton
    if version is None or draft.torch.cuda is None or not situation.gpu_needed or request.only_flash_attn:
        return None
    missing = catalog.unassembled(version, situation.capabilities)
    if not missing:
        return None
    text = f"triton {version} assembles with ptxas {catalog.assembler(version, missing[0])}, which does not know {_sms(missing)}"
    return Verdict("triton-lacks-arch", f"{text}: kernels of Unsloth and torch.compile would fail")


def release_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Can the release be compiled for every GPU, and is the stack meant for them."""
    condition = draft.stack.not_on
    if condition and any(satisfies(cc, condition) for cc in situation.capabilities):
        return Verdict("not-on-this-gpu", draft.stack.not_on_reason or f"this stack is not for GPUs {condition}")
    if draft.adapter is not None and draft.adapter.archs and not set(draft.adapter.archs) & set(situation.capabilities):
        return Verdict(
            "release-lacks-arch", f"no GPU here is {_sms(draft.adapter.archs)}, which the adapter's own kernels are for"
        )
    if draft.release is not None:
        missing = not_compilable(situation.capabilities, draft.release.archs)
        if missing:
            return Verdict("release-lacks-arch", f"flash-attn {draft.release.version} has no kernels for {_sms(missing)}")
    return None


def route_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """A stack without flash-attn does not answer a request for it."""
    asked = request.flash_attn or request.only_flash_attn or request.kernels or request.build is BuildChoice.ALWAYS
    if draft.route is Route.NONE and asked:
        if situation.gpu_needed and situation.key.major >= 8:
            return Verdict("leaves-flash-attn-out", "flash-attn was asked for, and this stack leaves it out")
        where = f"{situation.key.sm} has none in any 2.x release" if situation.gpu_needed else "there is no GPU"
        return Verdict("no-kernels-for-gpu", f"flash-attn was asked for, but this stack has no kernels of it: {where}")
    return None


def jetpack_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Is the board's Jetson Linux the one that torch is built for: its C library, Python and CUDA are the board's (jetson-ai-lab, one index each)."""
    wanted, have = draft.stack.l4t, numbers(situation.l4t or "")
    if wanted is None or not have or have[0] == wanted:
        return None
    text = (
        f"torch {draft.torch.torch} from {draft.torch.index} is built for Jetson Linux {wanted}; this board has {situation.l4t}"
    )
    return Verdict("jetpack", text)


def adapter_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """The adapter beside a GPU of compute capability 8.0 or newer: there Unsloth and xformers would take it in place of better kernels.

    Unsloth takes whatever is called flash-attn when device 0 is 8.0 or newer, soft caps included, which the adapter refuses; xformers
    leaves torch's own flash kernels for it (unsloth 2026.10.9 models/_utils.py, xformers 0.0.35 ops/fmha/flash.py, read 2026-11-25).
    Below 8.0 neither looks at it.
    """
    newer = tuple(cc for cc in situation.capabilities if cc.major >= 8)
    if draft.adapter is None or not newer or request.flash_attn or request.only_flash_attn:
        return None
    text = f"beside {_sms(newer)} Unsloth would run the adapter there in place of xformers, and fail where a model softcaps"
    return Verdict("adapter-beside-newer-gpu", text)


def driver_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does the driver know this CUDA."""
    objection = driver_objection(situation, draft.torch.cuda) if situation.gpu_needed else None
    return Verdict("driver-too-old", objection) if objection else None


def glibc_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Is the C library new enough for torch and xformers; a trimmed stack is for those that are not."""
    have, stack = situation.glibc, draft.stack
    special = stack.platform is not None or request.only_flash_attn or numbers(stack.torch) < UNSLOTH_TORCH
    if stack.trimmed and not special and (have is None or have >= XFORMERS_GLIBC):
        return Verdict("leaves-unsloth-out", "this stack leaves Unsloth out, for systems with a glibc below 2.28")
    if have is None:
        return None
    if have < draft.torch.glibc:
        return _glibc(f"torch {stack.torch}", draft.torch.glibc, have)
    if stack.xformers and situation.processor == "x86_64" and situation.gpu_needed and have < XFORMERS_GLIBC:
        return _glibc(f"xformers {stack.xformers}", XFORMERS_GLIBC, have)
    return None


def source_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does every place answer from which the stack is fetched."""
    gone = situation.unreachable
    if not gone:
        return None
    if "package-index" in gone:
        return Verdict("source-unreachable", f"the Python packages come from {gone['package-index']}, which does not answer")
    if draft.torch.index is not None and "torch-index" in gone:
        text = f"torch {draft.torch.torch} ({draft.torch.index}) comes from {gone['torch-index']}, which does not answer"
        return Verdict("source-unreachable", text)
    if situation.backend == "conda" and "conda-channel" in gone:
        return Verdict("source-unreachable", f"Python comes from {gone['conda-channel']}, which does not answer")
    return None


def wheel_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Does the wheel hold kernels for every GPU, those that are wanted, and load on this C library (#1708, #1762, #2225)."""
    wheel = draft.wheel
    if wheel is None:
        return None
    missing = uncovered(situation.capabilities, wheel.archs)
    if missing:
        held = ", ".join(arch.sm for arch in wheel.archs) or "no GPU that is known"
        return Verdict("wheel-lacks-arch", f"the wheel holds kernels for {held}, so {_sms(missing)} would find none")
    if wheel.kernels is None and request.kernels is not None:
        return Verdict("kernel-selection", "a choice of kernels means compiling: a wheel holds what its maker chose")
    if wheel.kernels is not None and (absent := lacking(wheel.kernels, request.kernels or UNSLOTH)):
        return Verdict("kernels-missing", f"the wheel was built without {', '.join(absent)}, which this plan wants")
    if situation.glibc and wheel.glibc and situation.glibc < wheel.glibc:
        return _glibc("the wheel", wheel.glibc, situation.glibc)
    if wheel.driver_cuda and (floor := wheel_driver(situation, wheel.driver_cuda)):
        text = f"the wheel's kernels are compressed in a way that drivers before {floor} cannot read; {situation.driver_here}"
        return Verdict("driver-too-old", text)
    return None


def trust_rule(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Who made the wheel, is its hash known, and does the place that serves it answer."""
    wheel = draft.wheel
    if wheel is None:
        return None
    if wheel.trust is Trust.COMMUNITY and not situation.allow_community:
        return Verdict("community-not-allowed", "built by a third party; --allow-community accepts such wheels")
    if request.offline and wheel.sha256 is None:
        return Verdict("hash-unknown", "its sha256 is not known, and offline there is no way to learn it")
    if "releases" in situation.unreachable and wheel.trust in (Trust.OFFICIAL, Trust.COMMUNITY):
        return Verdict("source-unreachable", f"the wheel comes from {situation.unreachable['releases']}, which does not answer")
    return None


STACK_RULES = (
    torch_rule,
    triton_rule,
    release_rule,
    jetpack_rule,
    adapter_rule,
    route_rule,
    driver_rule,
    glibc_rule,
    build_rule,
    source_rule,
    nvcc_rule,
)
DRAFT_RULES = (wheel_rule, trust_rule, python_rule)


def judge_stack(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Return why all drafts of this one's stack are rejected, None when nothing speaks against the stack as such."""
    for rule in STACK_RULES:
        if (verdict := rule(situation, draft, request, catalog)) is not None:
            return verdict
    return None


def judge_draft(situation: Situation, draft: Draft, request: Request, catalog: Catalog) -> Verdict | None:
    """Return why this draft is rejected although its stack is not."""
    for rule in DRAFT_RULES:
        if (verdict := rule(situation, draft, request, catalog)) is not None:
            return verdict
    return None


def _glibc(what: str, floor: tuple[int, ...], have: tuple[int, ...]) -> Verdict:
    wanted, shown = (".".join(str(number) for number in version) for version in (floor, have))
    return Verdict("glibc-too-old", f"{what} needs glibc {wanted}; this system has {shown}")


def _sms(capabilities: tuple[ComputeCapability, ...]) -> str:
    return ", ".join(cc.sm for cc in capabilities)
