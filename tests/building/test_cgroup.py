"""A build in a control group with too little memory for all CPUs: the kernel has nobody to kill. Real groups, real ninja."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.building.cgroups import Group, limited

pytestmark = [pytest.mark.slow, pytest.mark.subprocess]

LIMIT_MIB = 1024
"""An eighth of the usual small container; the units are as much smaller than flash-attn's."""

UNIT_MIB = 250

DRIVER = """
import sys
from pathlib import Path
open(sys.argv[2], "w").write("0")  # enter the group before anything is measured
from provisioner.building.compile import run_graph
from provisioner.building.costs import Cost
from provisioner.building.graph import Unit
from provisioner.building.memory import read_capacity
from provisioner.building.schedule import choose_jobs
from tests.building.test_compile import hog, writer
build, real = Path(sys.argv[1]), [int(word) for word in sys.argv[4:]]
expected = int(sys.argv[3])
units = [Unit(f"u{i}", f"u{i}", False, Cost(2.0, expected)) for i in range(len(real))]
budget = read_capacity().budget_mib
jobs = choose_jobs(units, budget_mib=budget, cpus=8)
write = writer(build, {unit.name: hog(mib, 1.5) for unit, mib in zip(units, real)})
outcome = run_graph(build, units, jobs, budget=lambda: read_capacity().budget_mib, write_graph=write)
print(jobs.total, len(outcome.compiled), outcome.retries)
"""


@pytest.fixture
def group() -> Iterator[Group]:
    with limited(LIMIT_MIB) as made:
        if made is None:
            pytest.skip("no control group can be made here")
        yield made


def build_in(group: Group, folder: Path, repository: Path, *, expected: int, real: list[int]) -> tuple[int, int, int]:
    """Build units that hold ``real`` MiB and were measured to hold ``expected``; return (jobs, compiled, retries)."""
    argv = [sys.executable, "-c", DRIVER, str(folder), str(group.procs), str(expected), *map(str, real)]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    jobs, compiled, retries = map(int, done.stdout.split())
    return jobs, compiled, retries


def test_a_build_in_a_small_group_takes_as_many_jobs_as_fit_and_nobody_is_killed(
    group: Group, tmp_path: Path, repository: Path
) -> None:
    jobs, compiled, retries = build_in(group, tmp_path, repository, expected=UNIT_MIB, real=[UNIT_MIB] * 6)
    assert 1 <= jobs <= 3
    assert (compiled, retries) == (6, 0)
    assert group.oom_kills == 0


def test_a_unit_that_takes_far_more_than_it_was_measured_to_is_tried_again_with_fewer_jobs(
    group: Group, tmp_path: Path, repository: Path
) -> None:
    """Whether our watcher or the kernel is faster, the build goes on and finishes."""
    jobs, compiled, retries = build_in(group, tmp_path, repository, expected=100, real=[100, 100, 700, 700, 100, 100])
    assert jobs > 1
    assert retries >= 1
    assert compiled == 6
