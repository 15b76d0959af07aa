"""All drafts of a recipe judged for one machine: the accepted ones in order, the rejected ones with their reason."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from provisioner.errors import NoRoute, UsageError
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import Catalog
from provisioner.planning.driver_rules import needs_forward_compatibility, older_than_gpu
from provisioner.planning.ranking import rank_key
from provisioner.planning.recipe import Recipe
from provisioner.planning.recipes import pick
from provisioner.planning.refusals import is_windows
from provisioner.planning.rules import judge_draft, judge_stack
from provisioner.planning.situation import Situation, capabilities_of, knows_gpus, nvidia, situation
from provisioner.planning.stock import Draft
from provisioner.planning.values import Candidate, Request
from provisioner.planning.verdict import Verdict


class Judgement(NamedTuple):
    """All drafts of a recipe, judged: the accepted ones best first, the rejected ones with their verdict."""

    situation: Situation
    recipes: tuple[Recipe, ...]
    accepted: tuple[Draft, ...]
    rejected: tuple[tuple[Draft, Verdict], ...]


def judge_all(machine: Machine, request: Request, catalog: Catalog) -> Judgement:
    """Return every draft for this machine, judged. Raise `NoRoute` when no recipe is for its GPUs."""
    recipes = choose_recipes(machine, request, catalog)
    here = situation(machine, request, recipes)
    groups: dict[int, tuple[Verdict | None, bool, bool]] = {}
    accepted: list[tuple[tuple[object, ...], Draft]] = []
    rejected: list[tuple[Draft, Verdict]] = []
    for draft in catalog.drafts(recipes, request, here.processor, platform_of(machine, here)):
        verdict, forward, older = draft.flaw, False, False
        if verdict is None:
            judged = groups.get(draft.group)
            if judged is None:
                judged = groups[draft.group] = (
                    judge_stack(here, draft, request, catalog),
                    needs_forward_compatibility(here, draft.torch.cuda),
                    older_than_gpu(here, draft.torch.cuda),
                )
            verdict, forward, older = judged
        verdict = verdict or judge_draft(here, draft, request, catalog)
        if verdict is None:
            accepted.append((rank_key(draft, forward=forward, older=older), draft))
        else:
            rejected.append((draft, verdict))
    accepted.sort(key=itemgetter(0))
    return Judgement(here, recipes, tuple(draft for _, draft in accepted), tuple(rejected))


def would_plan(machine: Machine, request: Request, catalog: Catalog) -> bool:
    """Say whether a candidate is accepted, for a request or a machine that differs from the one at hand."""
    return bool(judge_all(machine, request, catalog).accepted)


def choose_recipes(machine: Machine, request: Request, catalog: Catalog) -> tuple[Recipe, ...]:
    """Return the recipe and its overlays: the one asked for, else by the lowest compute capability, else ``cpu``."""
    overlays = tuple(recipe for recipe in catalog.recipes if recipe.overlay and recipe.match.wsl == machine.platform.wsl)
    if request.recipe:
        return (_asked_for(request.recipe, catalog), *overlays)
    if not nvidia(machine) and knows_gpus(machine):
        return (next(recipe for recipe in catalog.recipes if recipe.match.gpu == "none"), *overlays)
    lowest = capabilities_of(machine)[0]
    for recipe in catalog.recipes:
        if recipe.suits(lowest) and not recipe.overlay:
            return (recipe, *overlays)
    raise NoRoute(f"no recipe is for compute capability {lowest}", hints=["provision recipes list"], code="no-recipe")


def _asked_for(name: str, catalog: Catalog) -> Recipe:
    """Return the recipe that the user names. Raise `UsageError` for an unknown one and for an overlay, which stands on another."""
    recipe = pick(catalog.recipes, name)
    if recipe.overlay:
        raise UsageError(
            f"{name} is laid over another recipe and cannot stand alone",
            hints=["name the recipe below it, for example --recipe ampere", f"the machine decides about {name} (--wsl)"],
            code="overlay-recipe",
        )
    return recipe


def platform_of(machine: Machine, here: Situation) -> str | None:
    """Return the kind of platform whose stacks apply: ``jetson``, ``windows`` or None for an ordinary Linux.

    A Jetson of compute capability 11.0 (Thor, JetPack 7) runs the ordinary aarch64 packages.
    """
    if here.jetson and here.key.major < 11:
        return "jetson"
    return "windows" if is_windows(machine) else None


def listed_candidates(judgement: Judgement) -> tuple[Candidate, ...]:
    """Return the candidates for the plan: accepted by rank, then rejected in the recipe's order."""
    accepted = [_candidate(draft, rank) for rank, draft in enumerate(judgement.accepted, 1)]
    return (*accepted, *(_rejected(draft, verdict) for draft, verdict in judgement.rejected))


@lru_cache(maxsize=65536)
def _candidate(draft: Draft, rank: int) -> Candidate:
    code = "chosen" if rank == 1 else "fits"
    return Candidate(
        draft.id, True, code, draft.summary, rank, draft.route, draft.torch.torch, draft.torch.cuda, draft.python, draft.version
    )


@lru_cache(maxsize=65536)
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
