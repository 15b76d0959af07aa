"""Find and read recipes: those shipped here, those of folders the user names, those of installed packages.

Shipped recipes lie in ``recipes/`` at the top of a source checkout and in ``provisioner/recipes/`` of an installed wheel.
A package offers more through the entry point group ``provision.recipes``: each entry point names a package or module whose
directory holds TOML files. A recipe of the user's folder replaces a shipped one of the same name.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import provisioner
from provisioner import codec
from provisioner.capability import ComputeCapability
from provisioner.compat import tomllib
from provisioner.errors import UsageError
from provisioner.planning.recipe import RECIPE_SCHEMA, Recipe, satisfies
from provisioner.planning.values import Route

ENTRY_POINTS = "provision.recipes"


def shipped_dir() -> Path:
    """The directory of the shipped recipes. Raise `UsageError` when the installation lacks it."""
    package = Path(provisioner.__file__).resolve().parent
    for place in (package / "recipes", package.parent / "recipes"):
        if (place / "ampere.toml").is_file():
            return place
    raise UsageError(
        "this installation of provision holds no recipes",
        hints=["install it again"],
        code="recipes-missing",
    )


def load_recipes(directories: Sequence[Path] = (), *, plugins: bool = True) -> tuple[Recipe, ...]:
    """Return all recipes, each name once: the user's folders first, then packages', then the shipped ones.

    Raise `UsageError` naming the file and the field when one is not valid.
    """
    found: dict[str, Recipe] = {}
    for directory in (*directories, *(plugin_dirs() if plugins else ()), shipped_dir()):
        for path in recipe_files(directory):
            recipe = read_recipe(path)
            found.setdefault(recipe.name, recipe)
    return tuple(found.values())


def recipe_files(directory: Path) -> list[Path]:
    """Return the TOML files of a folder in name order. Raise `UsageError` when it is no folder."""
    if not directory.is_dir():
        raise UsageError(
            f"no such folder of recipes: {directory}",
            hints=["--recipes takes a folder of TOML files; `provision recipes list` shows those that ship"],
            code="recipes-missing",
        )
    return sorted(directory.glob("*.toml"))


def plugin_dirs() -> Iterator[Path]:
    """Yield the recipe folders of installed packages (entry point group ``provision.recipes``)."""
    if not _any_plugin():
        return
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS):
        module = entry.load()
        if file := getattr(module, "__file__", None):
            yield Path(file).parent
        else:
            yield from (Path(place) for place in getattr(module, "__path__", ()))


def _any_plugin() -> bool:
    """Say whether some installed package names the group; reading the files spares the import of `importlib.metadata`."""
    mark = f"[{ENTRY_POINTS}]".encode()
    files = (file for place in sys.path for file in Path(place or ".").glob("*.dist-info/entry_points.txt"))
    return any(mark in file.read_bytes() for file in files)


@cache
def read_recipe(path: Path) -> Recipe:
    """Return the recipe in one TOML file. Raise `UsageError` naming what is wrong in it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"cannot read the recipe {path}: {error}",
            hints=["`provision recipes show ampere --json` shows the form"],
            code="bad-recipe",
        ) from error
    recipe = codec.from_builtins(data, Recipe, what=f"recipe {path}")
    if problems := check(recipe):
        raise UsageError(f"recipe {path} is not valid: {problems[0]}", hints=problems[1:], code="bad-recipe")
    return recipe


def check(recipe: Recipe) -> list[str]:
    """Return what is wrong with a recipe beyond its types; an empty list when nothing is."""
    problems = []
    if recipe.schema != RECIPE_SCHEMA:
        problems.append(f"schema {recipe.schema} is not known; this provision reads schema {RECIPE_SCHEMA}")
    if not any((recipe.match.compute_capability, recipe.match.gpu, recipe.match.wsl)):
        problems.append("[match] names no machine: give compute_capability, gpu or wsl")
    if not recipe.overlay and not recipe.stacks:
        problems.append("it holds no [[stacks]]")
    conditions = [recipe.match.compute_capability, *(stack.not_on for stack in recipe.stacks)]
    for condition in filter(None, conditions):
        try:
            satisfies(ComputeCapability(8, 0), condition)
        except ValueError as error:
            problems.append(str(error))
    for number, stack in enumerate(recipe.stacks, 1):
        if stack.route is not Route.NONE and not stack.flash_attn:
            problems.append(f"stack {number} ({stack.torch}) has route {stack.route} but names no flash_attn version")
        if not stack.pythons:
            problems.append(f"stack {number} ({stack.torch}) names no Python")
    return problems


def pick(recipes: Sequence[Recipe], name: str) -> Recipe:
    """Return the recipe called ``name``. Raise `UsageError` with the names there are."""
    for recipe in recipes:
        if recipe.name == name:
            return recipe
    known = ", ".join(recipe.name for recipe in recipes)
    raise UsageError(f"no recipe is called {name!r}", hints=[f"recipes: {known}"], code="unknown-recipe")
