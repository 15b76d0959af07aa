from __future__ import annotations

import sys
import time

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
