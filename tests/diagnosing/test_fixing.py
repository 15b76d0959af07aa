"""Repairs that change nothing unasked, and that leave everything as it was where they fail or are interrupted."""

from __future__ import annotations

import ast
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import provisioner.diagnosing
from provisioner.diagnosing.fixing import BEFORE, Step, apply_undoably
from provisioner.diagnosing.messages import all_messages
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages

pytestmark = pytest.mark.subprocess

FILES: dict[str, str | bytes] = {
    "peft/__init__.py": "",
    "peft/gone.py": "",
    **{f"peft/part_{number}.py": "" for number in range(4000)},
}


def digest(prefix: Path) -> str:
    """One value for all files, links and modes of an environment."""
    found = hashlib.sha256()
    for path in sorted(prefix.rglob("*")):
        found.update(f"{path.relative_to(prefix)} {path.lstat().st_mode:o} ".encode())
        if path.is_symlink():
            found.update(str(path.readlink()).encode())
        elif path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """An environment with pip of whose peft a file is gone; its interpreter."""
    python = make_venv(tmp_path / "env")
    install(python, make_wheel(tmp_path / "index", "peft", "0.21.2", FILES))
    (site_packages(python) / "peft" / "gone.py").unlink()
    return python


def doctor(python: Path, *words: str) -> subprocess.Popen[str]:
    index = python.parents[2] / "index"
    environ = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}
    command = [sys.executable, "-m", "provisioner", "doctor", "--python", str(python), *words]
    return subprocess.Popen(
        command, env=environ, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_a_dry_run_and_a_question_without_an_answer_change_nothing(broken: Path) -> None:
    before = digest(broken.parents[1])
    shown = doctor(broken, "--fix", "--dry-run").communicate()[0]
    assert "package-incomplete: " in shown
    assert "[reversible]" in shown
    assert digest(broken.parents[1]) == before
    asked = doctor(broken, "--fix").communicate()[0]
    assert "Apply them?" in asked
    assert digest(broken.parents[1]) == before


def test_a_repair_that_is_agreed_to_repairs(broken: Path) -> None:
    process = doctor(broken, "--fix", "--yes")
    assert "Nothing wrong was found." in process.communicate()[0]
    assert process.returncode == 0
    assert not list(broken.parents[1].rglob(f"*{BEFORE}*"))


def test_a_repair_interrupted_half_way_is_undone(broken: Path) -> None:
    """At the moment at which pip has set the old package aside and writes the new one."""
    prefix, site = broken.parents[1], site_packages(broken)
    before = digest(prefix)
    process = doctor(broken, "--fix", "--yes")
    deadline = time.monotonic() + 60
    while not list(site.glob("~*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    assert list(site.glob("~*")), process.communicate()[0]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert digest(prefix) == before


def test_a_repair_that_fails_half_way_is_undone(broken: Path) -> None:
    prefix = broken.parents[1]
    before = digest(prefix)
    damage = f"rm -r {site_packages(broken) / 'peft'} {prefix / 'bin' / 'pip'} && false"
    assert not apply_undoably(Step("package-incomplete", damage), prefix).ok
    assert digest(prefix) == before


def test_the_scripts_of_a_whole_system_are_not_put_aside(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    inode = (tmp_path / "bin").stat().st_ino
    assert not apply_undoably(Step("import-fails", "false"), tmp_path).ok
    assert (tmp_path / "bin").stat().st_ino == inode


def test_what_a_killed_repair_left_is_put_back_by_the_next(broken: Path) -> None:
    prefix, site = broken.parents[1], site_packages(broken)
    before = digest(prefix)
    kill = f"import os, signal, shutil; shutil.rmtree({str(site / 'peft')!r}); os.kill(os.getppid(), signal.SIGKILL)"
    command = shlex.join([sys.executable, "-c", kill])
    code = f"from pathlib import Path; from provisioner.diagnosing import fixing; fixing.apply_undoably(fixing.Step('x', {command!r}), Path({str(prefix)!r}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    assert digest(prefix) != before
    assert not apply_undoably(Step("package-incomplete", "false"), prefix).ok
    assert digest(prefix) == before


def test_a_repair_without_an_index_says_why_it_failed_and_that_nothing_has_changed(broken: Path) -> None:
    before = digest(broken.parents[1])
    next((broken.parents[2] / "index").glob("*.whl")).unlink()
    process = doctor(broken, "--fix", "--yes")
    shown = process.communicate()[0]
    assert process.returncode == 1
    assert "No matching distribution found for peft==0.21.2" in shown
    assert "the environment is as it was before" in shown
    assert digest(broken.parents[1]) == before


CHANGES = ("apt-get ", "export ", "unset ", "ulimit ", "rm ", "mv ", "mkdir ", "pip ", "provision create", "conda ", "uv ")


@pytest.mark.parametrize("path", sorted(Path(provisioner.diagnosing.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_a_command_that_changes_something_is_never_called_read_only(path: Path) -> None:
    for call in ast.walk(ast.parse(path.read_text())):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Fix":
            written = ast.unparse(call)
            if any(f"'{verb}" in written for verb in CHANGES):
                assert "Safety." in written, written


def test_no_message_of_the_catalogue_calls_a_change_read_only() -> None:
    wrong = [one.code for one in all_messages() if one.command and one.command.startswith(CHANGES) and one.safety == "read-only"]
    assert not wrong
