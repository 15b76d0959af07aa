"""README's commands run as they are printed, and its figures are those that the program gives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from provisioner.cli.app import COMMANDS
from provisioner.compat import tomllib
from provisioner.environments import store
from tests.environments.test_store import make

pytestmark = pytest.mark.subprocess

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

RUN_HERE = {
    "provision detect": 0,
    "provision plan --explain": (0, 3),
    "provision plan --gpu v100": 0,
    'eval "$(provision activate unsloth_env)"': 0,
    "provision run unsloth_env python train.py": 0,
    "provision doctor --emit-script > unsloth_diagnose.py": 0,
    "provision doctor --report FILE": (0, 1),
    "provision capture DIR": 0,
    "provision knowledge show": 0,
    "provision list": 0,
    "provision rollback NAME": 2,
    'eval "$(provision completion bash)"': 0,
    "provision --help": 0,
}
"""Each as README prints it → its exit code; a word in capitals stands for what `prepared` makes. Only one generation: no rollback."""

ELSEWHERE = {
    "lock": "tests/e2e/test_lock.py",
    "bundle": "tests/e2e/test_bundle.py",
    "create": "tests/e2e/test_create_wheel.py",
    "remove": "tests/e2e/test_create_wheel.py",
    "install": "tests/e2e/test_install.py",
    "build": "tests/building/test_build.py",
    "inspect": "tests/cli/test_inspect.py",
    "verify": "tests/cli/test_verify.py",
    "recipes": "tests/planning/test_recipes.py",
}
"""Commands that need an index, a compiler or a wheel → the tests that run them on local ones."""


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "PATH": path}
    )


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A folder with what the commands speak of: an environment of that name, a script, a report."""
    environment = make("unsloth_env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.prefix], check=True, timeout=120)
    (tmp_path / "train.py").write_text("import sys; print(sys.prefix)")
    (tmp_path / "FILE").write_text(
        "RuntimeError: FlashAttention only supports Ampere GPUs or newer.\nTesla T4, driver 535.104.05"
    )
    (tmp_path / "NAME").symlink_to(environment.prefix)
    return tmp_path


@pytest.mark.parametrize("command", RUN_HERE)
def test_a_command_of_readme_runs_as_it_is_printed(command: str, prepared: Path) -> None:
    assert command in README, "README no longer prints it: change this table"
    expected = RUN_HERE[command]
    run = shell(command.replace("NAME", "unsloth_env"), prepared)
    assert run.returncode in (expected if isinstance(expected, tuple) else (expected,)), run.stderr
    assert "Traceback" not in run.stderr


def test_activating_and_running_reach_the_environment(prepared: Path) -> None:
    run = shell('eval "$(provision activate unsloth_env)"; python train.py; provision run unsloth_env python train.py', prepared)
    activated, ran = run.stdout.split()
    assert activated == ran == str(store.find("unsloth_env").prefix)


def test_every_command_is_in_readme_and_run_by_some_test() -> None:
    named = {name for name in COMMANDS if re.search(rf"\bprovision (?:[a-z]+ / )*{name}\b|/ {name}\b", README)}
    assert set(COMMANDS) - named == set()
    here = {words.split("provision ", 1)[1].split()[0] for words in RUN_HERE}
    assert set(COMMANDS) - here - set(ELSEWHERE) == set()
    for name, file in ELSEWHERE.items():
        assert re.search(rf"""["'] ?{name}\b|\b{name}\b""", (ROOT / file).read_text(encoding="utf-8")), file


def test_no_command_is_promised_that_is_not_there() -> None:
    block = README[README.index("## What it does") :].split("\n| GPU |")[0]
    promised = set(re.findall(r"^ {4}provision ([a-z]+)", block, re.MULTILINE))
    assert promised <= set(COMMANDS)


@cache
def plan(arguments: str) -> dict[str, object]:
    run = shell(f"provision plan --json {arguments}", ROOT)
    assert run.returncode == 0, run.stderr
    return dict(json.loads(run.stdout)["plan"])


def minutes(arguments: str) -> int:
    estimates = plan(arguments)["estimates"]
    assert isinstance(estimates, dict)
    return round(int(estimates["build_cpu_seconds"]) / 60)


def test_the_forecasts_are_what_the_program_forecasts() -> None:
    match = re.search(r"`make create ARGS='([^']+)'`[^(]*?\(forecast: (\d+) CPU-minutes\)", README, re.DOTALL)
    assert match
    assert int(match[2]) == minutes(match[1])
    trimmed = re.search(r"about (\d+) CPU-minutes\s+by forecast", README)
    assert trimmed
    assert int(trimmed[1]) == minutes("--gpu h100 --driver 580.65.06 --build")


def test_the_wheel_index_is_as_large_and_as_old_as_readme_says() -> None:
    stated = re.search(r"shipped index \(([\d,]+) wheels,\s+([\d-]+)\)", README)
    assert stated
    index = json.loads(shell("provision knowledge show --json", ROOT).stdout)["wheel_index"]
    assert (int(stated[1].replace(",", "")), stated[2]) == (index["wheels"], index["date"])


def test_every_page_and_variable_that_readme_names_exists() -> None:
    for page in re.findall(r"docs/[a-z]+\.md", README):
        assert (ROOT / page).is_file(), page
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "provisioner").rglob("*.py"))
    for variable in set(re.findall(r"\bPROVISION_[A-Z_]+", README)):
        assert variable in sources, variable


def test_make_help_names_every_target_that_readme_names() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake (create|test|slow|lint|[a-z]+)\b", README)) & {"create", "test", "slow", "lint"}:
        assert re.search(rf"^{target}: ", makefile, re.MULTILINE), target


def test_the_python_versions_are_those_of_the_package() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"Python {required.removeprefix('>=')} to" in README
