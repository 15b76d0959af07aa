"""The JSON schema of a recipe, made from the typed form so that the two cannot differ."""

from __future__ import annotations

from typing import Any

import msgspec

from provisioner.planning.recipe import Recipe

TITLE = "A recipe of provision: the machines it is for, the versions it may choose from, and what goes into the environment"


def recipe_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12); unknown keys are faults, so that a misspelt one does not go unseen."""
    (root,), components = msgspec.json.schema_components([Recipe], ref_template="#/$defs/{name}")
    for component in components.values():
        if component.get("type") == "object" and "properties" in component:
            component["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": TITLE, **root, "$defs": components}


def unknown_keys(data: Any, schema: dict[str, Any] | None = None, place: str = "") -> list[str]:
    """Return the keys of a recipe's text that no recipe has, as dotted places such as ``stacks.pyhton``."""
    root = schema or recipe_schema()
    return list(_unknown(data, {"$ref": root["$ref"]}, root["$defs"], place))


def _unknown(data: Any, schema: dict[str, Any], definitions: dict[str, Any], place: str) -> list[str]:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]]
    if isinstance(data, list):
        items = schema.get("items") or {}
        return [found for item in data for found in _unknown(item, items, definitions, place)]
    properties = schema.get("properties")
    if not isinstance(data, dict) or properties is None:
        return []
    found = [f"{place}{key}" for key in data if key not in properties]
    for key, value in data.items():
        if key in properties:
            found += _unknown(value, properties[key], definitions, f"{place}{key}.")
    return found
