"""The table of environments on terminals of every width."""

from __future__ import annotations

import pytest

from provisioner.cli.list import lines
from tests.environments.test_store import make


@pytest.mark.parametrize("width", [40, 60, 100, 300, None])
def test_every_environment_is_readable_whatever_the_width(width: int | None) -> None:
    made = [make("unsloth_env"), make("a")]
    shown = list(lines(made, width))
    assert shown[0].startswith("name         recipe")
    for environment in made:
        assert any(line.startswith(environment.name) and "2.13.0" in line for line in shown)
        assert any(str(environment.prefix) in line for line in shown), "a prefix is never cut"
    if width == 300 or width is None:
        assert len(shown) == 3
