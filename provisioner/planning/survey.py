"""Every wheel of the index with the reason why the plan does not use it: what `--explain` shows beyond the recipe's candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.machine.facts import Machine
from provisioner.planning.catalog import Catalog
from provisioner.planning.drafts import tag, wheel_id
from provisioner.planning.driver_rules import driver_objection, uncovered, wheel_driver
from provisioner.planning.judging import choose_recipes, judge_all
from provisioner.planning.numbers import numbers
from provisioner.planning.plan import visible
from provisioner.planning.recipe import UNSLOTH_TORCH
from provisioner.planning.situation import Situation, situation
from provisioner.planning.values import Candidate, Request, Route, Trust
from provisioner.planning.verdict import Verdict

if TYPE_CHECKING:
    from provisioner.planning.stock import WheelStock


def survey(machine: Machine, request: Request, catalog: Catalog, known: tuple[Candidate, ...] = ()) -> tuple[Candidate, ...]:
    """Return a rejected candidate for every wheel of the index that is not among ``known``, in the index's order."""
    machine = visible(machine)
    recipes = choose_recipes(machine, request, catalog)
    here = situation(machine, request, recipes)
    pythons = frozenset(tag(python) for recipe in recipes for stack in recipe.stacks for python in stack.pythons)
    seen = {candidate.id for candidate in known}
    return tuple(_candidates(here, request, catalog, pythons, seen, AskedFor(machine, request, catalog)))


class AskedFor:
    """What becomes of a wheel of the index when its torch and its version are named: judged once for each pair."""

    def __init__(self, machine: Machine, request: Request, catalog: Catalog) -> None:
        self._machine, self._request, self._catalog = machine, request, catalog
        self._judged: dict[tuple[str, str], dict[str, Verdict | None]] = {}

    def verdict(self, wheel: WheelStock) -> Verdict | None:
        """Return what would speak against it, None where it would be planned or stand behind the one that is."""
        key = (wheel.torch, wheel.version)
        if key not in self._judged:
            self._judged[key] = self._judge(replace(self._request, torch=wheel.torch, flash_attn=wheel.version))
        nothing = Verdict("torch-unknown", f"no torch {wheel.torch} that is known here goes with it")
        return self._judged[key].get(wheel.url, nothing)

    def _judge(self, request: Request) -> dict[str, Verdict | None]:
        judgement = judge_all(self._machine, request, self._catalog)
        found: dict[str, Verdict | None] = {draft.wheel.url: verdict for draft, verdict in judgement.rejected if draft.wheel}
        return found | {draft.wheel.url: None for draft in judgement.accepted if draft.wheel}


def _candidates(
    here: Situation, request: Request, catalog: Catalog, pythons: frozenset[str], seen: set[str], asked: AskedFor
) -> Iterator[Candidate]:
    for wheel in catalog.all_wheels():
        name = wheel_id(wheel)
        if wheel.processor != "x86_64" or wheel.system != "linux":
            name += f"-{wheel.system}-{wheel.processor}"
        if name in seen:
            continue
        seen.add(name)
        code, reason = why_not(here, request, catalog, pythons, wheel, asked)
        cuda = ".".join(str(number) for number in wheel.cuda)
        python = f"{wheel.python[2]}.{wheel.python[3:]}" if wheel.python.startswith("cp") else wheel.python
        yield Candidate(name, False, code, reason, None, Route.WHEEL, wheel.torch, cuda, python, wheel.version)


def why_not(
    here: Situation, request: Request, catalog: Catalog, pythons: frozenset[str], wheel: WheelStock, asked: AskedFor
) -> Verdict:
    """Return the first reason against a wheel, from what cannot be changed to what a pin would change."""
    if wheel.processor != here.processor or wheel.system != ("windows" if here.native_windows else "linux"):
        return Verdict("wheel-platform", f"it is for {wheel.system} on {wheel.processor}")
    if wheel.trust is Trust.CONDA_FORGE:
        return Verdict(
            "conda-forge-torch-only", "conda-forge's wheel goes with conda-forge's pytorch; this plan takes torch by pip"
        )
    if here.jetson and here.key.major < 11:
        return Verdict("jetson-torch", "it goes with the index's torch for aarch64 servers, which does not run on a Jetson")
    reason = _gpu_reason(here, wheel) or _system_reason(here, wheel) or _choice_reason(here, request, catalog, pythons, wheel)
    if reason is not None or (reason := asked.verdict(wheel)) is not None:
        return reason
    text = f"no stack of the recipe pairs it; --torch {wheel.torch} --flash-attn {wheel.version} asks for it"
    return Verdict("not-in-recipe", text)


def _gpu_reason(here: Situation, wheel: WheelStock) -> Verdict | None:
    if numbers(wheel.version)[:1] == (1,):
        return Verdict(
            "api-1", "flash-attn 1.x has another API: Unsloth and transformers cannot use it, and xformers fails beside it"
        )
    missing = uncovered(here.capabilities, wheel.archs)
    if missing:
        held = ", ".join(arch.sm for arch in wheel.archs) or "no GPU that is known"
        return Verdict("wheel-lacks-arch", f"it holds kernels for {held}, none for {', '.join(cc.sm for cc in missing)}")
    return None


def _system_reason(here: Situation, wheel: WheelStock) -> Verdict | None:
    if here.glibc and wheel.glibc and here.glibc < wheel.glibc:
        floor, have = (".".join(str(number) for number in version) for version in (wheel.glibc, here.glibc))
        return Verdict("glibc-too-old", f"it needs glibc {floor}; this system has {have}")
    cuda = f"{wheel.cuda[0]}.{wheel.cuda[1] if len(wheel.cuda) > 1 else 0}" if wheel.cuda else None
    if wheel.cuda and wheel.cuda[0] >= 11 and (objection := driver_objection(here, cuda)):
        return Verdict("driver-too-old", objection)
    if wheel.driver_cuda and (newer := wheel_driver(here, wheel.driver_cuda)):
        return Verdict("driver-too-old", f"its kernels are compressed in a way that drivers before {newer} cannot read")
    return None


def _choice_reason(
    here: Situation, request: Request, catalog: Catalog, pythons: frozenset[str], wheel: WheelStock
) -> Verdict | None:
    if numbers(wheel.torch) < UNSLOTH_TORCH and not request.only_flash_attn:
        return Verdict("torch-too-old", f"it is for torch {wheel.torch}, and Unsloth needs torch 2.4")
    if wheel.python not in pythons:
        return Verdict("python-unsupported", f"it is for {wheel.python}, which the recipe does not use")
    if wheel.abi is not None and wheel.real_abi is not None and wheel.abi is not wheel.real_abi:
        return Verdict(
            "abi-mislabelled", f"labelled cxx11abi{str(wheel.abi).upper()}, but built with the other ABI (#1783, #1717)"
        )
    if wheel.real_abi is not None and wheel.real_abi not in catalog.torch_abis(wheel):
        return Verdict("abi-mismatch", f"no pip build of torch {wheel.torch} for its CUDA has the wheel's C++ ABI")
    if wheel.trust is Trust.COMMUNITY and not here.allow_community:
        return Verdict("community-not-allowed", "built by a third party; such wheels need --allow-community")
    if not catalog.torch_covers(wheel, here.capabilities):
        return Verdict("torch-lacks-arch", f"no torch {wheel.torch} of its CUDA holds kernels for {here.capabilities[-1].sm}")
    return None
