"""Completion as a shell does it: bash itself where it is there, and the protocol that all three shells speak."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.cli.completion import SHELLS, script
from tests.environments.test_store import make

pytestmark = pytest.mark.subprocess

PROGRAM = Path(sys.executable).with_name("provision")

IN_BASH = """
eval "$(provision completion bash)"
COMP_WORDS=({words} "{last}"); COMP_CWORD={index}; COMPREPLY=()
_provision_completion provision
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(*words: str) -> list[str]:
    """Return what bash offers after ``words``, the last of which is unfinished."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    code = IN_BASH.format(words=" ".join(("provision", *words[:-1])), last=words[-1], index=len(words))
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": path})
    assert run.stderr == ""
    return run.stdout.split()


def test_commands_subcommands_options_and_values_complete() -> None:
    assert completed("re") == ["remove", "recipes"]
    assert completed("recipes", "") == ["check", "list", "show"]
    assert completed("plan", "--g") == ["--gpu", "--glibc"]
    assert completed("plan", "--backend", "") == ["conda", "venv"]


def test_the_names_of_environments_complete() -> None:
    make("unsloth_env")
    make("other")
    assert completed("run", "") == ["other", "unsloth_env"]
    assert completed("install", "--env", "un") == ["unsloth_env"]
    assert completed("nosuch", "x") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_code_that_it_reads(shell: str) -> None:
    code = script(shell)
    assert f"_PROVISION_COMPLETE={shell}_complete" in code
    if program := shutil.which(shell):
        run = subprocess.run([program, "-n"], input=code, capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shells_question_is_answered(shell: str) -> None:
    asked = {
        "_PROVISION_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "provision cre",
        "COMP_CWORD": "cre" if shell == "fish" else "1",
    }
    run = subprocess.run([PROGRAM], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60)
    assert run.stderr == ""
    assert "create" in run.stdout
