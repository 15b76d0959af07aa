"""Recipes: the shipped ones are sound, further ones are found, and a bad one is named with its fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.capability import ComputeCapability
from provisioner.compat import tomllib
from provisioner.errors import UsageError
from provisioner.planning.catalog import load_catalog
from provisioner.planning.check import check_file, check_recipe
from provisioner.planning.recipe import satisfies
from provisioner.planning.recipe_schema import recipe_schema
from provisioner.planning.recipes import load_recipes, pick, read_recipe, recipe_files, shipped_dir

SCHEMA = Path(__file__).parents[2] / "recipes" / "recipe.schema.json"
SHIPPED = recipe_files(shipped_dir())

MINE = """
schema = 1
name = "mine"
title = "Ours"
checked = "2026-11-24"
[match]
compute_capability = ">=9.0"
[[stacks]]
route = "wheel"
torch = "2.9.1"
cuda = "12.8"
pythons = ["3.12"]
flash_attn = ["2.8.3"]
"""


def schema_text() -> str:
    return json.dumps(recipe_schema(), indent=1) + "\n"


def test_the_shipped_recipes_are_the_five_of_the_design() -> None:
    assert {recipe.name for recipe in load_recipes(plugins=False)} == {"ampere", "turing", "volta", "wsl", "cpu"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.stem))
def test_every_shipped_recipe_pairs_only_what_exists_and_fits(path: Path) -> None:
    assert check_file(path) == []


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.stem))
def test_every_shipped_recipe_matches_the_schema(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(tomllib.loads(path.read_text(encoding="utf-8")), json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_the_schema_that_ships_is_the_one_of_the_typed_form() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


def test_every_compute_capability_from_70_on_has_one_recipe_and_none_goes_by_name() -> None:
    recipes = load_recipes(plugins=False)
    for text in ("7.0", "7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "11.0", "12.0", "12.1"):
        assert len([recipe for recipe in recipes if recipe.suits(ComputeCapability.parse(text))]) == 1, text
    text = "\n".join(path.read_text(encoding="utf-8") for path in SHIPPED)
    assert "gpu_name" not in text


@pytest.mark.parametrize(
    ("capability", "condition", "meets"),
    [
        ("8.0", ">=8.0", True),
        ("7.5", ">=8.0", False),
        ("8.9", ">=8.0, <9.0", True),
        ("9.0", ">=8.0, <9.0", False),
        ("7.5", "==7.5", True),
    ],
)
def test_conditions_on_the_compute_capability(capability: str, condition: str, meets: bool) -> None:
    assert satisfies(ComputeCapability.parse(capability), condition) is meets


def test_a_recipe_of_the_users_folder_is_found_and_goes_first(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    recipes = load_recipes((tmp_path,))
    assert recipes[0].name == "mine"
    assert list(check_recipe(recipes[0], load_catalog())) == []


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        load_recipes((tmp_path / "nowhere",))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("torch =", "torch = 2 #"), "Expected `str`"),
        ((">=9.0", "new"), "not a condition"),
        (("schema = 1", "schema = 7"), "schema 7"),
        (("[match]", "[match"), "cannot read"),
        (('flash_attn = ["2.8.3"]', ""), "names no flash_attn"),
        (("2.9.1", "2.9.77"), "no torch 2.9.77"),
        (('["2.8.3"]', '["2.8.77"]'), "no flash-attn of 2.8.77"),
        (("pythons", "pyhtons"), "missing required field `pythons`"),
        (("cuda =", 'cudaa = "1"\ncuda ='), "no recipe has the key stacks.cudaa"),
    ],
)
def test_a_bad_recipe_is_named_with_its_fault(tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace(*change))
    problems = check_file(path)
    assert any(fault in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("version", "fault"), [("2.8.3+volta", "no version 2.8.3+volta"), ("2.8.3", "no version 2.8.3"), ("2.8.3+aten", None)]
)
def test_an_adapter_that_a_recipe_names_must_exist(tmp_path: Path, version: str, fault: str | None) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(MINE.replace('route = "wheel"', 'route = "shim"').replace('["2.8.3"]', f'["{version}"]'))
    problems = check_file(path)
    assert bool(problems) is (fault is not None)
    assert fault is None or any(fault in problem for problem in problems)


def test_an_unknown_recipe_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        pick(load_recipes(plugins=False), "amper")
    assert "ampere" in caught.value.hints[0]


def test_recipes_are_data_and_state_when_they_were_checked() -> None:
    assert all(read_recipe(path).checked for path in SHIPPED)


def test_an_installed_package_offers_its_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, info = tmp_path / "house_recipes", tmp_path / "house_recipes-1.dist-info"
    package.mkdir()
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.toml").write_text(MINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: house-recipes\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[provision.recipes]\nhouse = house_recipes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [recipe.name for recipe in load_recipes()].count("mine") == 1
    assert "mine" not in [recipe.name for recipe in load_recipes(plugins=False)]


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(), encoding="utf-8")
