"""What would have to change on a machine or in a request that is refused: each change is tried, so that what is printed helps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.machine.facts import Driver, HostCompiler, Machine
from provisioner.planning.judging import Judgement, judge_all, would_plan
from provisioner.planning.refusals import VOLTA, driver_hint
from provisioner.planning.values import BuildChoice, Request

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.situation import Situation

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


def ways_out(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, counts: Counter[str]) -> Iterator[str]:
    """Yield what would have to change, the easiest first: changes that suffice alone, else all that are needed; options only where they help."""
    here = judgement.situation
    asked = [code for code in EASIEST_FIRST if code in counts and _is_changeable(code)]
    enough = [code for code in asked if would_plan(*_changed(machine, request, code), catalog)]
    for code in enough or _together(machine, request, catalog, judgement) or asked:
        yield driver_hint(here) if code == "driver-too-old" else CHANGES[code]
    yield from _options(machine, request, catalog, counts)
    yield from _other_paths(here, counts)


def _is_changeable(code: str) -> bool:
    return code in CHANGES or code == "driver-too-old"  # the driver's text depends on the GPUs


def _together(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement) -> list[str]:
    """Return changes that lead to a plan together, where a rejection shows only once another is out of the way; empty where none do."""
    needed: list[str] = []
    while not judgement.accepted:
        seen = {code for _, (code, _) in judgement.rejected} - set(needed)
        code = next((code for code in EASIEST_FIRST if code in seen and _is_changeable(code)), None)
        if code is None:
            return []
        needed.append(code)
        judgement = judge_all(*_after(machine, request, needed), catalog)
    for code in tuple(needed):
        rest = [other for other in needed if other != code]
        if would_plan(*_after(machine, request, rest), catalog):
            needed = rest
    return needed


def _after(machine: Machine, request: Request, codes: Sequence[str]) -> tuple[Machine, Request]:
    for code in codes:
        machine, request = _changed(machine, request, code)
    return machine, request


def _changed(machine: Machine, request: Request, code: str) -> tuple[Machine, Request]:
    """Return the machine and the request after the change that a rejection asks for."""
    match code:
        case "driver-too-old":
            return replace(machine, driver=Driver(NEWEST_DRIVER)), request
        case "glibc-too-old":
            return replace(machine, platform=replace(machine.platform, glibc="2.39")), request
        case "jetpack":
            return replace(machine, platform=replace(machine.platform, jetson="36.4", glibc="2.35")), request
        case "python-headers-missing":
            return replace(machine, pythons=tuple(replace(one, headers=True) for one in machine.pythons)), request
        case "compiler-missing" | "host-compiler-too-new":
            return replace(machine, compilers=(HostCompiler("gcc", "g++", "12"),)), request
        case "nvcc-unavailable":
            sources = tuple(source for source in machine.sources if source.name != "conda-channel")
            return replace(machine, sources=sources), replace(request, backend="conda")
        case _:
            return machine, replace(request, backend="conda")


NEWEST_DRIVER = "999.0"
"""A driver newer than every table."""


def _options(machine: Machine, request: Request, catalog: Catalog, counts: Counter[str]) -> Iterator[str]:
    """Yield the options that would be enough."""
    offers = (
        ({"build-not-asked", "build-not-allowed"}, replace(request, build=BuildChoice.ALWAYS), "allow compiling: --build"),
        ({"unsloth-unsupported"}, replace(request, only_flash_attn=True), "leave Unsloth out: --only flash-attn"),
        (
            {"community-not-allowed"},
            replace(request, allow_community=True),
            "accept wheels that others built: --allow-community",
        ),
        (
            {"no-kernels-for-gpu", "build-asked", "kernel-selection"},
            replace(request, build=BuildChoice.AUTO, flash_attn=None, kernels=None, only_flash_attn=False),
            "leave --build, --flash-attn, --only and the kernel options away: flash-attn is not needed for the rest",
        ),
    )
    for codes, changed, text in offers:
        if counts.keys() & codes and would_plan(machine, changed, catalog):
            yield text


def _other_paths(here: Situation, counts: Counter[str]) -> Iterator[str]:
    """Yield what there is beside our own routes."""
    if "release-lacks-arch" in counts:
        missing = here.capabilities[-1]
        yield f"torch's own SDPA needs no flash-attn; FlashAttention 4 (flash-attn-4) is the line to watch for {missing.sm}"
    if "build-asked" in counts and VOLTA in here.capabilities:
        yield "a source tree that you know to hold Volta kernels: provision build --source TREE --arch sm_70"
