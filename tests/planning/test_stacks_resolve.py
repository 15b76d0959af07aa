"""The stacks of the recipes really resolve on the package index, and the adapter's version suits the xformers that comes.

Slow: reaches the index that the user's settings name.
"""

from __future__ import annotations

import pytest
from packaging.version import Version

from provisioner.indexes import read_index_settings
from provisioner.knowledge import packages
from provisioner.locking.pypi_part import Target, resolve
from provisioner.planning.catalog import load_catalog
from provisioner.planning.judging import judge_all
from provisioner.planning.plan import make_plan
from provisioner.planning.recipe import Stack
from provisioner.planning.requirements import requirements
from provisioner.planning.values import BuildChoice, Request, Route
from tests.planning.machines import machine

pytestmark = [pytest.mark.slow, pytest.mark.network]

NEW = machine("NVIDIA H100 80GB HBM3=9.0", "610.43.02", "2.39")


def stacks_of_the_index() -> list[tuple[str, Stack]]:
    """Return the stacks that the package index alone serves, each once, with the Python that they prefer."""
    found: dict[tuple[str, str, tuple[str, ...]], Stack] = {}
    for recipe in load_catalog().recipes:
        if recipe.name in ("ampere", "volta"):
            for stack in recipe.stacks:
                torch = load_catalog().torch(stack, "x86_64")
                if stack.platform is None and not stack.trimmed and torch is not None and torch.index is None:
                    found.setdefault((stack.torch, stack.cuda or "", (stack.xformers or "",)), stack)
    return [(f"torch{stack.torch}+cuda{stack.cuda}", stack) for stack in found.values()]


STACKS = stacks_of_the_index()

OLDER = {
    "turing": machine("Tesla T4=7.5", "610.43.02", "2.39"),
    "volta": machine("Tesla V100-SXM2-32GB=7.0", "580.95.05", "2.39"),
}
ADAPTED = [
    (recipe.name, stack.torch, stack.cuda)
    for recipe in load_catalog().recipes
    if recipe.name in OLDER
    for stack in recipe.stacks
    if stack.route is Route.SHIM and not stack.trimmed and getattr(load_catalog().torch(stack, "x86_64"), "index", "") is None
]


@pytest.mark.parametrize("stack", [stack for _, stack in STACKS], ids=[name for name, _ in STACKS])
def test_the_requirements_of_a_stack_resolve_to_what_the_recipe_says(stack: Stack) -> None:
    catalog = load_catalog()
    wheel = stack.route is Route.WHEEL
    request = Request(
        torch=stack.torch, cuda=stack.cuda, build=BuildChoice.NEVER if wheel else BuildChoice.ALWAYS, allow_community=True
    )
    judgement = judge_all(NEW, request, catalog)
    draft = next(draft for draft in judgement.accepted if draft.torch.torch == stack.torch and draft.python == stack.pythons[0])
    wanted = requirements(judgement.situation, draft, judgement.recipes[0], request)
    locked = resolve(wanted, Target(python=draft.python, machine="x86_64", glibc="2.39"), settings=read_index_settings())
    versions = {package.name: package.version.split("+")[0] for package in locked}
    assert versions["torch"] == stack.torch
    assert versions["xformers"] == stack.xformers
    assert versions["triton"] == stack.triton
    assert {"unsloth", "unsloth-zoo", "bitsandbytes", "trl", "peft", "transformers"} <= versions.keys()


@pytest.mark.parametrize(("recipe", "torch", "cuda"), ADAPTED)
def test_the_adapters_version_lies_in_the_range_of_the_xformers_that_the_index_gives(recipe: str, torch: str, cuda: str) -> None:
    plan = make_plan(OLDER[recipe], Request(torch=torch, cuda=cuda), load_catalog())
    assert (plan.recipe, plan.route) == (recipe, Route.SHIM)
    assert plan.flash_attn
    locked = resolve(
        plan.requirements, Target(python=plan.python, machine="x86_64", glibc="2.39"), settings=read_index_settings()
    )
    versions = {package.name: package.version.split("+")[0] for package in locked}
    assert (versions["torch"], versions["xformers"], versions["triton"]) == (torch, plan.xformers, plan.triton)
    assert {"unsloth", "unsloth-zoo", "bitsandbytes", "einops"} <= versions.keys()
    assert "flash-attn" not in versions
    release = packages.xformers_release(versions["xformers"])
    assert release
    read = Version(plan.flash_attn.version).public  # xformers reads the adapter's __version__, which has no label
    assert Version(release.flash_attn_min) <= Version(read) <= Version(release.flash_attn_max or "99")
