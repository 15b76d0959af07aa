"""The plans of named real configurations are the reviewed ones (``python -m tests.planning.golden_files`` renews them)."""

from __future__ import annotations

import pytest

from tests.planning.configurations import CONFIGURATIONS
from tests.planning.golden_files import FOLDER, golden_text


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_plan_is_the_reviewed_one(name: str) -> None:
    assert golden_text(CONFIGURATIONS[name]) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8")


def test_there_are_at_least_60_real_configurations_and_no_stale_file() -> None:
    assert len(CONFIGURATIONS) >= 60
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(CONFIGURATIONS)
