"""What a person reads: a long task in a terminal and in a log; text folded under its label on a terminal, whole in a pipe."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import progress
from provisioner.cli import console
from provisioner.cli.console import Output, folded, show_error
from provisioner.errors import NoRoute

NOTE = "note         Unsloth uses flash-attn only from compute capability 8.0 on and takes xformers here: the normal state."


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


def test_a_long_fact_stays_right_of_its_label() -> None:
    lines = folded(NOTE, 60)
    assert lines[0].startswith("note         Unsloth uses")
    assert all(line.startswith(" " * 13) and not line.startswith(" " * 14) for line in lines[1:])
    assert len(lines) == 3


def test_a_path_is_never_cut() -> None:
    path = "/home/somebody/" + "very/" * 20 + "long"
    assert any(path in line for line in folded(f"environment  {path}", 60))


@given(st.text(st.sampled_from("ab -./  "), max_size=200), st.integers(20, 120))
def test_folding_loses_no_word(line: str, width: int) -> None:
    assert " ".join(folded(line, width)).split() == line.split()


def test_a_pipe_gets_the_line_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output().prose(NOTE * 3)
    Output(as_json=True).prose(NOTE)
    caught = capsys.readouterr()
    assert caught.out == NOTE * 3 + "\n"
    assert caught.err == NOTE + "\n"


def test_an_error_on_a_terminal_is_folded_and_what_to_type_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    command = "provision plan --gpu v100 --torch 2.10.0 --cuda 12.8 --python 3.12 --explain --json"
    error = NoRoute("nothing that exists serves this machine", why="torch holds no kernels for sm_70 " * 4, hints=[command])
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    monkeypatch.delenv("COLUMNS", raising=False)
    with io.TextIOWrapper(os.fdopen(writer, "wb", buffering=0), write_through=True) as terminal:
        monkeypatch.setattr(sys, "__stdout__", terminal)  # whose size counts
        monkeypatch.setattr(sys, "stderr", terminal)
        show_error(error, as_json=False)
        lines = os.read(reader, 4096).decode().splitlines()
    os.close(reader)
    assert f"  next: {command}" in lines
    folded_why = [line for line in lines if line.startswith(("  why:  ", "        "))]
    assert len(folded_why) > 2
    assert all(len(line) <= 60 for line in folded_why)
