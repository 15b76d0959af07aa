"""What ``--python`` may name, and what is refused with a reason before anything is checked."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from provisioner.environments.install import site_packages
from provisioner.errors import UsageError
from provisioner.verifying.interpreter import find_interpreter

pytestmark = pytest.mark.integration


def program(path: Path, text: str, mode: int = 0o755) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def test_a_venv_its_interpreter_and_a_command_on_path_are_taken_and_links_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    python = tmp_path / "env" / "bin" / "python"
    monkeypatch.setenv("PATH", f"{python.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    assert {find_interpreter(named) for named in (python, tmp_path / "env", Path("python"), Path("env/bin/python"))} == {python}


@pytest.mark.parametrize(
    ("text", "mode", "code", "said"),
    [
        ("exit 0", 0o644, "no-interpreter", "may not be executed"),
        ("echo Python 2.7.18 >&2", 0o755, "bad-python", "does not run as a Python"),
        ("printf '2 7'", 0o755, "python-too-old", "is Python 2.7; the checks need 3.10 or later"),
        ("printf '3 9'", 0o755, "python-too-old", "is Python 3.9; the checks need 3.10 or later"),
        ("exit 3", 0o755, "bad-python", "does not run as a Python"),
    ],
)
def test_what_cannot_run_the_checks_is_refused_before_them(tmp_path: Path, text: str, mode: int, code: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        find_interpreter(program(tmp_path / "python", text, mode))
    assert caught.value.code == code
    assert caught.value.hints


def test_an_error_at_the_start_is_its_reason(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        find_interpreter(program(tmp_path / "python", "echo 'Fatal Python error: no module encodings' >&2; exit 1"))
    assert caught.value.why == "Fatal Python error: no module encodings"


def test_an_interpreter_whose_site_hook_prints_is_one(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "noisy.pth").write_text("import sys; print('hook 1 2')\n")
    assert find_interpreter(tmp_path / "env") == tmp_path / "env" / "bin" / "python"
    assert site_packages(tmp_path / "env" / "bin" / "python") == site


@pytest.mark.parametrize("named", ["missing", "empty"])
def test_nothing_there_is_said(tmp_path: Path, named: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no interpreter at") as caught:
        find_interpreter(tmp_path / named)
    assert caught.value.exit_code == 2


def test_this_interpreter_is_one() -> None:
    assert find_interpreter(Path(sys.executable)) == Path(sys.executable).absolute()
