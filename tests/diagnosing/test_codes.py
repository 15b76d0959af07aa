"""docs/doctor.md names every code that the checks of an environment can give."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import provisioner.diagnosing

FOLDER = Path(provisioner.diagnosing.__file__).parent
PAGE = (Path(__file__).parents[2] / "docs" / "doctor.md").read_text(encoding="utf-8")


def written(path: Path) -> set[str]:
    """The codes that stand in a module as the first argument of a `Candidate`."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call) and node.args)
    named = (call.args[0] for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Candidate")
    return {str(first.value) for first in named if isinstance(first, ast.Constant)}


@pytest.mark.parametrize("path", [*sorted(FOLDER.glob("checks/*.py")), FOLDER / "interpreters.py"], ids=lambda path: path.stem)
def test_every_code_of_a_check_is_in_the_documentation(path: Path) -> None:
    assert not {code for code in written(path) if f"`{code}`" not in PAGE}
