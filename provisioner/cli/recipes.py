"""``provision recipes``: list, show and check recipes."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking

folders = click.option(
    "--recipes",
    "recipe_dirs",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Read further recipes from this folder (repeatable).",
)


@click.group("recipes")
def command() -> None:
    """List, show and check recipes."""


@command.command("list", short_help="List the recipes.")
@folders
@speaking
def list_recipes(recipe_dirs: tuple[Path, ...], output: Output, offline: bool, yes: bool) -> None:
    """List the recipes: the shipped ones, those of installed packages, those of further folders."""
    from provisioner.planning.recipes import load_recipes

    recipes = load_recipes(recipe_dirs)
    if output.as_json:
        output.document(recipes=[{"name": recipe.name, "title": recipe.title, "match": recipe.match} for recipe in recipes])
        return
    for recipe in recipes:
        match = recipe.match
        machines = match.compute_capability or (f"WSL {match.wsl}" if match.wsl else "no NVIDIA GPU")
        output.prose(f"{recipe.name:<10}{machines:<16}{recipe.title}")


@command.command("show")
@click.argument("name")
@folders
@speaking
def show_recipe(name: str, recipe_dirs: tuple[Path, ...], output: Output, offline: bool, yes: bool) -> None:
    """Show one recipe with its stacks in the order of preference."""
    from provisioner.planning.recipes import load_recipes, pick

    recipe = pick(load_recipes(recipe_dirs), name)
    if output.as_json:
        output.document(recipe=recipe)
        return
    output.say(f"{recipe.name}: {recipe.title} (checked {recipe.checked})")
    for number, stack in enumerate(recipe.stacks, 1):
        cuda = f"CUDA {stack.cuda}" if stack.cuda else "CPU"
        flash = f"flash-attn {', '.join(stack.flash_attn)}" if stack.flash_attn else "no flash-attn"
        trust = f" [{', '.join(stack.trust)}]" if list(stack.trust) == ["community"] else ""
        xformers = f", xformers {stack.xformers}" if stack.xformers else ""
        pythons = "/".join(stack.pythons)
        output.prose(f"{number:>3}  {stack.route:<7}torch {stack.torch} {cuda}, {flash}{trust}{xformers}, Python {pythons}")
    for note in recipe.attention.notes:
        output.prose(f"  - {note}")


@command.command("check", short_help="Check recipe files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@speaking
def check_recipes(files: tuple[Path, ...], output: Output, offline: bool, yes: bool) -> int:
    """Check recipe files: their form, and that what they pair exists and fits. Exit 1 when one is not good."""
    from provisioner.planning.check import check_file

    reports = {str(path): check_file(path) for path in files}
    if output.as_json:
        output.document(recipes=reports)
        return 1 if any(reports.values()) else 0
    for path, problems in reports.items():
        output.say(f"{path}: {_count(problems)}")
        for problem in problems:
            output.say(f"  - {problem}")
    if any(reports.values()):
        from provisioner.errors import Findings

        raise Findings("not every recipe is good", hints=["`provision recipes show NAME` shows a good one"], code="bad-recipe")
    return 0


def _count(problems: list[str]) -> str:
    return "good" if not problems else f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
