"""The build keeps its memory budget, tells errors apart, and loses only units in flight. Real ninja, small shell units."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from provisioner.building.compile import MARK, Outcome, clear_leftovers, run_graph
from provisioner.building.costs import Cost
from provisioner.building.graph import Unit
from provisioner.building.schedule import Jobs
from provisioner.errors import BuildFailed

pytestmark = pytest.mark.subprocess

HOG = "import sys, time; held = bytearray(int(sys.argv[1]) * 2**20); time.sleep(float(sys.argv[2]))"


def units(*names: str, peak_mib: int = 10) -> list[Unit]:
    return [Unit(name, name, False, Cost(1.0, peak_mib)) for name in names]


def writer(build: Path, commands: dict[str, str]) -> Callable[[Jobs], None]:
    """Write a graph like the real one: one command per unit, an object that appears when it is complete."""
    (build / "obj").mkdir(parents=True, exist_ok=True)
    (build / "out").mkdir(exist_ok=True)

    def write(jobs: Jobs) -> None:
        lines = [
            "rule run",
            "  command = $cmd && echo x >> started && echo x > $out.part && mv -f $out.part $out",
            "  description = $unit",
        ]
        for name, command in commands.items():
            lines += [f"build obj/{name}.o: run", f"  unit = {name}", f"  cmd = {command}"]
        (build / "build.ninja").write_text("\n".join([*lines, ""]))

    return write


def hog(mib: int, seconds: float = 1.5) -> str:
    return f"{sys.executable} -c '{HOG}' {mib} {seconds}"


def test_all_units_are_compiled_and_counted(tmp_path: Path) -> None:
    write = writer(tmp_path, {"a": "true", "b": "true", "c": "true"})
    outcome = run_graph(tmp_path, units("a", "b", "c"), Jobs(2, 1), budget=lambda: 1000, write_graph=write)
    assert sorted(outcome.compiled) == ["a", "b", "c"]
    assert outcome.retries == 0


def test_what_is_done_is_not_done_again(tmp_path: Path) -> None:
    write = writer(tmp_path, {"a": "true", "b": "true"})
    run_graph(tmp_path, units("a", "b"), Jobs(1, 1), budget=lambda: 1000, write_graph=write)
    again = run_graph(tmp_path, units("a", "b"), Jobs(1, 1), budget=lambda: 1000, write_graph=write)
    assert again.compiled == []


def test_a_compile_error_is_shown_with_its_first_lines(tmp_path: Path) -> None:
    write = writer(tmp_path, {"bad": "(echo 'x.cu(3): error: no such thing' && false)"})
    with pytest.raises(BuildFailed, match="no such thing") as caught:
        run_graph(tmp_path, units("bad"), Jobs(1, 1), budget=lambda: 1000, write_graph=write)
    assert caught.value.code == "compile-error"
    assert "no such thing" in (tmp_path / "build.log").read_text()


def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    write = writer(tmp_path, {"bad": "(echo 'fatal error: error writing to /tmp/x.s: No space left on device' && false)"})
    with pytest.raises(BuildFailed) as caught:
        run_graph(tmp_path, units("bad"), Jobs(1, 1), budget=lambda: 1000, write_graph=write)
    assert caught.value.code == "disk-full"


def test_a_unit_that_takes_more_than_the_budget_beside_others_is_ended_and_tried_again_alone(tmp_path: Path) -> None:
    write = writer(tmp_path, {"a": hog(200), "b": hog(200), "c": "true"})
    outcome = run_graph(tmp_path, units("a", "b", "c"), Jobs(2, 2), budget=lambda: 300, write_graph=write)
    assert outcome.retries >= 1
    assert sorted(outcome.compiled) == ["a", "b", "c"]
    assert outcome.jobs == Jobs(1, 1)


def test_a_unit_killed_from_outside_is_retried_with_fewer_jobs(tmp_path: Path) -> None:
    once = "(test -e tried || (touch tried && kill -9 $$$$))"
    write = writer(tmp_path, {"a": f"sh -c '{once}'", "b": "true"})
    outcome = run_graph(tmp_path, units("a", "b"), Jobs(4, 2), budget=lambda: 1000, write_graph=write)
    assert outcome.retries == 1
    assert outcome.jobs == Jobs(2, 1)
    assert "a" in outcome.compiled


def test_a_unit_that_is_killed_even_alone_ends_the_build_with_the_reason(tmp_path: Path) -> None:
    write = writer(tmp_path, {"a": "(echo \"nvcc error : 'cicc' died due to signal 9 (Kill signal)\" && false)"})
    with pytest.raises(BuildFailed, match="although it ran alone") as caught:
        run_graph(tmp_path, units("a", peak_mib=6300), Jobs(2, 1), budget=lambda: 1000, write_graph=write)
    assert caught.value.code == "out-of-memory"


def test_the_memory_held_by_compilers_is_measured(tmp_path: Path) -> None:
    write = writer(tmp_path, {"a": hog(150, 1.5)})
    outcome = run_graph(tmp_path, units("a"), Jobs(1, 1), budget=lambda: 1000, write_graph=write)
    assert 140 < outcome.peak_mib < 250


def test_compilers_left_over_from_a_killed_build_are_ended_first(tmp_path: Path) -> None:
    left = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(tmp_path)})
    bystander = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    (tmp_path / "obj").mkdir()
    (tmp_path / "obj" / "x.o.part").touch()
    clear_leftovers(tmp_path)
    assert left.wait(5) is not None
    assert not psutil.pid_exists(left.pid)
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()
    assert list((tmp_path / "obj").iterdir()) == []


DRIVER = """
import sys
from pathlib import Path
from provisioner.building.schedule import Jobs
from provisioner.building.compile import run_graph
from tests.building.test_compile import units, writer
build, count = Path(sys.argv[1]), int(sys.argv[2])
names = [f"u{i}" for i in range(count)]
write = writer(build, {name: f"sleep 0.25 && echo {name} >> done" for name in names})
outcome = run_graph(build, units(*names), Jobs(2, 1), budget=lambda: 1000, write_graph=write)
print(len(outcome.compiled))
"""


@pytest.mark.parametrize("done_before", [1, 3])
def test_after_kill_9_only_units_in_flight_are_compiled_again(tmp_path: Path, repository: Path, done_before: int) -> None:
    argv = [sys.executable, "-c", DRIVER, str(tmp_path), "8"]
    env = {**os.environ, "PYTHONPATH": str(repository)}
    first = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL)
    while len(list((tmp_path / "obj").glob("*.o"))) < done_before:
        time.sleep(0.02)
    first.kill()
    first.wait()
    finished = len(list((tmp_path / "obj").glob("*.o")))
    subprocess.run(argv, env=env, check=True, capture_output=True)
    runs = (tmp_path / "done").read_text().split()
    assert set(runs) == {f"u{i}" for i in range(8)}
    assert len(runs) <= 8 + 2
    assert 0 < finished < 8


def test_an_outcome_starts_empty() -> None:
    assert Outcome().compiled == []
