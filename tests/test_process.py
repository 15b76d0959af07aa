from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from provisioner.process import run

pytestmark = pytest.mark.subprocess


def test_a_missing_program_is_a_value_not_an_exception() -> None:
    result = run(["/nonexistent/program"], timeout=5)
    assert result.code is None
    assert not result.ok


def test_a_hanging_program_is_stopped_with_its_children() -> None:
    started = time.monotonic()
    result = run(["sh", "-c", "echo before; sleep 60 & sleep 60"], timeout=0.5)
    assert result.timed_out
    assert result.out == "before\n"
    assert time.monotonic() - started < 10


def test_lines_arrive_while_it_runs_and_the_streams_stay_apart() -> None:
    lines: list[str] = []
    result = run(["sh", "-c", "echo one; echo two >&2; printf three"], timeout=5, on_line=lines.append)
    assert result.ok
    assert result.out == "one\nthree"
    assert result.err == "two\n"
    assert sorted(lines) == ["one", "two"]


def test_a_talkative_program_is_not_kept_whole() -> None:
    from provisioner.process import OUTPUT_LIMIT

    result = run([sys.executable, "-c", "import sys; sys.stdout.write('x' * (20 * 2**20))"], timeout=30)
    assert result.ok
    assert len(result.out) == OUTPUT_LIMIT


def test_a_long_line_without_an_end_costs_its_length_once() -> None:
    lines: list[str] = []
    started = time.process_time()
    run(
        [sys.executable, "-c", "import sys; sys.stdout.write('x' * (40 * 2**20) + '\\nlast\\n')"],
        timeout=30,
        on_line=lines.append,
    )
    assert [len(line) < 200_000 for line in lines] == [True, True]
    assert lines[-1] == "last"
    assert time.process_time() - started < 5


def test_an_interrupt_ends_even_what_is_deaf_to_a_polite_end(tmp_path: Path) -> None:
    """The shell dies of SIGTERM; what it started in the background does not hear it."""
    pid = tmp_path / "pid"
    text = f"(trap '' TERM; exec sleep 60) & echo $! > {pid}; echo ready; sleep 60"

    def interrupted(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", text], timeout=30, on_line=interrupted, end_group=True)
    deadline = time.monotonic() + 5
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def _lives(pid: Path) -> bool:
    try:
        return Path(f"/proc/{pid.read_text().strip()}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
