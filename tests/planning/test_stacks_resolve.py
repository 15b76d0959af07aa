"""The stacks of the recipes really resolve on the package index (slow: reaches the index that the user's settings name)."""

from __future__ import annotations

import pytest

from provisioner.indexes import read_index_settings
from provisioner.locking.pypi_part import Target, resolve
from provisioner.planning.catalog import load_catalog
from provisioner.planning.judging import judge_all
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
