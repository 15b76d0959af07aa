"""docs/plans.md shows what the planner says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_the_page_is_what_the_planner_says(repository: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_plans_page", repository / "tools" / "make_plans_page.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (repository / "docs" / "plans.md").read_text(encoding="utf-8") == module.page()
