"""Machine, request and knowledge in; the plan out: every candidate judged, the best one described, or a refusal that helps.

Pure: no host, no socket, no clock. The same input gives the same plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from provisioner.errors import NoRoute
from provisioner.machine.facts import Gpu, Machine
from provisioner.planning.catalog import Catalog
from provisioner.planning.describe import describe
from provisioner.planning.no_route import no_route
from provisioner.planning.ranking import rank_key
from provisioner.planning.recipe import Recipe
from provisioner.planning.recipes import pick
from provisioner.planning.refusals import is_windows, refuse_unsupported
from provisioner.planning.rules import judge
from provisioner.planning.situation import Situation, knows_gpus, nvidia, situation
from provisioner.planning.stock import Draft
from provisioner.planning.values import Candidate, Plan, Request
from provisioner.planning.verdict import Verdict


class Judgement(NamedTuple):
    """All drafts of a recipe, judged: the accepted ones best first, the rejected ones with their verdict."""

    situation: Situation
    recipes: tuple[Recipe, ...]
    accepted: tuple[Draft, ...]
    rejected: tuple[tuple[Draft, Verdict], ...]


def make_plan(machine: Machine, request: Request, catalog: Catalog) -> Plan:
    """Return the plan for a machine.

    Raise `NoRoute` when nothing that exists would work (its details carry the candidates, its hints what would work instead),
    and `SourceUnreachable` when only places that do not answer stand in the way.
    """
    machine = visible(machine)
    refuse_unsupported(machine, request)
    judgement = judge_all(machine, request, catalog)
    candidates = listed_candidates(judgement)
    if not judgement.accepted:
        raise no_route(machine, request, catalog, judgement, candidates)
    return describe(machine, request, catalog, judgement, candidates)


def judge_all(machine: Machine, request: Request, catalog: Catalog) -> Judgement:
    """Return every draft for this machine, judged. Raise `NoRoute` when no recipe is for its GPUs."""
    recipes = choose_recipes(machine, request, catalog)
    here = situation(machine, request, recipes)
    accepted: list[Draft] = []
    rejected: list[tuple[Draft, Verdict]] = []
    for draft in catalog.drafts(recipes, request, here.processor, platform_of(machine, here)):
        verdict = judge(here, draft, request, catalog)
        if verdict is None:
            accepted.append(draft)
        else:
            rejected.append((draft, verdict))
    accepted.sort(key=lambda draft: rank_key(here, draft))
    return Judgement(here, recipes, tuple(accepted), tuple(rejected))


def choose_recipes(machine: Machine, request: Request, catalog: Catalog) -> tuple[Recipe, ...]:
    """Return the recipe and its overlays: the one asked for, else by the lowest compute capability, else ``cpu``."""
    overlays = tuple(recipe for recipe in catalog.recipes if recipe.overlay and recipe.match.wsl == machine.platform.wsl)
    if request.recipe:
        return (pick(catalog.recipes, request.recipe), *overlays)
    if not nvidia(machine) and knows_gpus(machine):
        return (next(recipe for recipe in catalog.recipes if recipe.match.gpu == "none"), *overlays)
    lowest = situation(machine, request).key
    for recipe in catalog.recipes:
        if recipe.suits(lowest) and not recipe.overlay:
            return (recipe, *overlays)
    raise NoRoute(f"no recipe is for compute capability {lowest}", hints=["provision recipes list"], code="no-recipe")


def platform_of(machine: Machine, here: Situation) -> str | None:
    """Return the kind of platform whose stacks apply: ``jetson``, ``windows`` or None for an ordinary Linux.

    A Jetson of compute capability 11.0 (Thor, JetPack 7) runs the ordinary aarch64 packages.
    """
    if here.jetson and here.key.major < 11:
        return "jetson"
    return "windows" if is_windows(machine) else None


def visible(machine: Machine) -> Machine:
    """Return the machine with the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, where it lists indices; else as it is."""
    listed = (machine.cuda_visible_devices or "").split(",")
    if not machine.gpus or not all(index.strip().isdigit() for index in listed):
        return machine
    wanted = [int(index) for index in listed]
    shown: list[Gpu] = [machine.gpus[index] for index in wanted if index < len(machine.gpus)]
    return replace(machine, gpus=tuple(shown)) if shown else machine


def listed_candidates(judgement: Judgement) -> tuple[Candidate, ...]:
    """Return the candidates for the plan: accepted by rank, then rejected in the recipe's order."""
    accepted = [_candidate(draft, rank) for rank, draft in enumerate(judgement.accepted, 1)]
    return (*accepted, *(_rejected(draft, verdict) for draft, verdict in judgement.rejected))


def _candidate(draft: Draft, rank: int) -> Candidate:
    code = "chosen" if rank == 1 else "fits"
    return Candidate(
        draft.id, True, code, draft.summary, rank, draft.route, draft.torch.torch, draft.torch.cuda, draft.python, draft.version
    )


def _rejected(draft: Draft, verdict: Verdict) -> Candidate:
    return Candidate(
        draft.id,
        False,
        verdict.code,
        verdict.reason,
        None,
        draft.route,
        draft.torch.torch,
        draft.torch.cuda,
        draft.python,
        draft.version,
    )


def recipe_names(recipes: Sequence[Recipe]) -> tuple[str, ...]:
    """Return the names of a recipe's overlays."""
    return tuple(recipe.name for recipe in recipes if recipe.overlay)
