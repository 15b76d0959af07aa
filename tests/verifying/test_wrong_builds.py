"""Really compiled wrong builds: each is caught on a GPU with its code, and the right one beside them passes.

Without a GPU it is held that each fault still fits the sources it edits. ``TEST_TORCH_PYTHON`` names an interpreter with a CUDA torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from provisioner.building import sources
from provisioner.building.releases import find_release
from provisioner.building.selection import select
from provisioner.verifying.receipt import Outcome
from provisioner.verifying.verify import verify
from tests.verifying.wrong_builds import ARCHS, FAULTS, KERNELS, RIGHT, Fault, build_all, edited

RELEASE = find_release("2.8.3.post2")
EDITS = [fault for fault in FAULTS if fault.header]


def named(fault: Fault) -> str:
    return fault.name


@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_each_fault_changes_units_that_the_build_has(fault: Fault) -> None:
    units = [Path(kernel.unit(RELEASE)).stem for kernel in select(RELEASE, KERNELS).compiled]
    if fault.changes:
        assert sum(unit.startswith(fault.changes) for unit in units) == 2
    assert fault.dropped is None or fault.dropped in units
    assert bool(fault.header) + bool(fault.dropped) + (fault.archs != ARCHS) == (fault is not RIGHT)


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("fault", EDITS, ids=named)
def test_each_edit_finds_its_place_in_the_sources(fault: Fault, tmp_path: Path) -> None:
    source = sources.unpack(sources.fetch_sdist(RELEASE), tmp_path / "source")
    tree = edited(source, tmp_path / "tree", fault, RELEASE.api)
    header = Path(RELEASE.sources) / fault.header
    assert (tree / header).read_text() != (source / header).read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    python = Path(os.environ.get("TEST_TORCH_PYTHON", sys.executable))
    return build_all(python, tmp_path_factory.mktemp("wrong"), jobs=len(os.sched_getaffinity(0)))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS, ids=named)
def test_a_wrong_build_is_caught_with_its_code(built: dict[str, Path], fault: Fault) -> None:
    receipt = verify(built[fault.name], check_seconds=10.0, speed=False)
    codes = {check.code for check in receipt.checks if check.outcome is Outcome.FAILED}
    assert codes == ({fault.code} if fault.code else set())
