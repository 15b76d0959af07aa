"""What a long task shows in a terminal and in a log."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from provisioner import progress
from provisioner.cli import console
from provisioner.cli.console import Output


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [0.0]
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    with Output().progress(), progress.task("compiling", total=100, unit="s") as task:
        for number, now in enumerate((1.0, 61.0, 62.0, 200.0), 1):
            seconds[0] = now
            task.advance(10, detail=f"{number}/4 units")
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["compiling …", "compiling: 2/4 units", "compiling: 4/4 units"]


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LOG_SECONDS", 0.0)
    with Output(quiet=True).progress(), progress.task("compiling", total=2) as task:
        task.advance()
    assert capsys.readouterr().err == ""
