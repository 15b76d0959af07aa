"""The number of kernels in a unit is counted, not guessed: it is what nvcc really instantiates (seen with ``nm`` on compiled units)."""

from __future__ import annotations

import pytest

from provisioner.building.instances import count
from provisioner.planning.values import FEATURES

UNSLOTH = ("backward", "varlen", "local", "softcap", "uneven")


@pytest.mark.parametrize(
    ("direction", "dim", "causal", "features", "gpus", "kernels"),
    [
        pytest.param("fwd", 64, False, FEATURES, None, 32, id="upstream's forward unit"),
        pytest.param("fwd", 128, True, UNSLOTH, None, 12, id="compiled 2026-11-25"),
        pytest.param("fwd", 128, True, UNSLOTH, [90], 6, id="one block shape"),
        pytest.param("fwd", 128, True, ("varlen",), [90], 3, id="one model"),
        pytest.param("bwd", 128, True, UNSLOTH, None, 12, id="backward"),
        pytest.param("bwd", 128, True, ("varlen",), None, 0, id="no backward"),
        pytest.param("split", 64, False, FEATURES, None, 52, id="split"),
    ],
)
def test_kernels_are_counted(
    direction: str, dim: int, causal: bool, features: tuple[str, ...], gpus: list[int] | None, kernels: int
) -> None:
    assert count(direction, dim, causal, features, gpus) == kernels


def test_a_feature_more_never_means_fewer_kernels() -> None:
    for direction in ("fwd", "bwd", "split"):
        for feature in FEATURES:
            without = [name for name in FEATURES if name != feature or name == "backward"]
            assert count(direction, 128, False, without) <= count(direction, 128, False, FEATURES)
