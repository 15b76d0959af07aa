"""Check a recipe against what is known: that its torch builds, wheels and releases exist and fit together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provisioner.compat import tomllib
from provisioner.errors import UsageError
from provisioner.planning.adapters import KERNELS, adapter
from provisioner.planning.catalog import Catalog, load_catalog
from provisioner.planning.drafts import of_stack, torch_label
from provisioner.planning.flaws import flaw
from provisioner.planning.recipe import Recipe, Stack
from provisioner.planning.recipe_schema import unknown_keys
from provisioner.planning.recipes import read_recipe
from provisioner.planning.values import Request, Route


def check_file(path: Path) -> list[str]:
    """Return what is wrong with the recipe in a file, an empty list when nothing is."""
    unknown = [f"no recipe has the key {key}" for key in _unknown(path)]
    try:
        recipe = read_recipe(path)
    except UsageError as error:
        return [error.what, *error.hints, *unknown]
    return [*unknown, *check_recipe(recipe, load_catalog())]


def _unknown(path: Path) -> tuple[str, ...]:
    """Return the keys that no recipe has, misspelt ones; none where the file is no TOML, which reading it says."""
    try:
        return tuple(unknown_keys(tomllib.loads(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return ()


def check_recipe(recipe: Recipe, catalog: Catalog) -> Iterator[str]:
    """Yield what is wrong with a recipe's stacks."""
    for number, stack in enumerate(recipe.stacks, 1):
        for problem in _check_stack(stack, catalog):
            yield f"stack {number}: {problem}"


def _check_stack(stack: Stack, catalog: Catalog) -> Iterator[str]:
    processor = "aarch64" if stack.platform == "jetson" else "x86_64"
    torch = catalog.torch(stack, processor)
    if torch is None:
        yield f"no torch {stack.torch} with CUDA {stack.cuda} is known" + (
            f" on {stack.torch_index}" if stack.torch_index else ""
        )
        return
    drafts = list(of_stack(catalog, stack, torch, 0, processor))
    if not drafts and stack.route is not Route.NONE:
        yield f"no flash-attn of {', '.join(stack.flash_attn)} is known as {stack.route} for torch {torch_label(torch)}"
    for version in stack.flash_attn if stack.route is Route.SHIM else ():
        if adapter(catalog, version) is None:
            yield f"the adapter has no version {version} (its labels: {', '.join(KERNELS)})"
    flaws = {draft.id: flaw(draft, Request(), catalog, processor) for draft in drafts if draft.route is stack.route}
    if flaws and all(flaws.values()):
        for name, verdict in flaws.items():
            yield f"{name}: {verdict.reason}" if verdict else name
    partners = catalog.partners(stack.torch)
    if stack.triton and partners.triton and stack.triton != partners.triton:
        yield f"torch {stack.torch} requires triton {partners.triton}, not {stack.triton}"
