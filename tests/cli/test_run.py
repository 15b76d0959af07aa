"""``provision run`` and ``remove`` where what is asked for cannot be done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.environments import store
from tests.environments.test_store import make

pytestmark = pytest.mark.subprocess


def provision(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "provisioner", *words], capture_output=True, text=True, timeout=60)


def test_a_script_without_a_first_line_is_refused_with_what_runs_it(tmp_path: Path) -> None:
    make("env")
    script = tmp_path / "script"
    script.write_text("echo hello\n")
    script.chmod(0o755)
    run = provision("run", "env", str(script))
    assert (run.returncode, f"provision run env bash {script}" in run.stderr) == (2, True)


def test_removing_without_a_stdin_asks_for_yes() -> None:
    make("env")
    code = "import os, sys; os.close(0); os.execv(sys.executable, [sys.executable, '-m', 'provisioner', 'remove', 'env'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (run.returncode, "provision remove env --yes" in run.stderr) == (2, True)
    assert store.exists("env")
