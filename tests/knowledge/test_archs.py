from __future__ import annotations

import pytest

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, gpus


@pytest.mark.parametrize(
    ("cuda", "capability", "compiles"),
    [
        ("12.9", "7.0", True),
        ("13.0", "7.0", False),
        ("13.0", "7.5", True),
        ("12.6", "12.0", False),
        ("12.8", "12.0", True),
        ("12.8", "10.0", True),
        ("12.8", "10.3", False),
        ("12.9", "10.3", True),
        ("11.7", "9.0", False),
        ("11.8", "9.0", True),
        ("11.8", "3.7", True),
        ("12.0", "3.7", False),
        ("13.0", "14.0", False),
    ],
)
def test_nvcc_compiles_for_an_architecture_from_its_first_cuda_to_its_last(cuda: str, capability: str, compiles: bool) -> None:
    assert archs.compiles_for(cuda, ComputeCapability.parse(capability)) is compiles


def test_every_gpu_that_is_known_has_an_architecture_that_is_known() -> None:
    assert {model.compute_capability for model in gpus.models() if archs.arch(model.compute_capability) is None} == set()


def test_an_architecture_is_found_by_each_spelling() -> None:
    assert archs.arch("sm_75") == archs.arch("7.5") == archs.arch(ComputeCapability(7, 5))


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ("8.6", ["8.0"], True),
        ("8.7", ["8.0", "8.6"], False),  # Orin: binaries for discrete GPUs do not run there
        ("8.7", ["8.7"], True),
        ("12.1", ["12.0"], True),
        ("10.3", ["10.0"], True),
        ("7.0", ["7.5"], False),
    ],
)
def test_binaries_run_on_later_minors_of_their_major_except_on_jetsons(capability: str, built: list[str], runs: bool) -> None:
    assert archs.covers(built, ComputeCapability.parse(capability)) is runs


def test_the_integrated_gpus_are_those_that_binary_compatibility_excepts() -> None:
    from provisioner.capability import INTEGRATED

    assert {ComputeCapability.parse(row.compute_capability) for row in archs.archs() if row.integrated} == INTEGRATED
