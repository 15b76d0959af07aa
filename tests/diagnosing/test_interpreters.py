"""Environments that cannot be asked or stand where they should not: another Python, another path, a prompt that tells them apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from provisioner.cli.doctor import command
from provisioner.diagnosing.fixing import BEFORE
from provisioner.diagnosing.relocation import copy_venv
from provisioner.environments import store
from provisioner.environments.manifest import Manifest
from provisioner.errors import ProvisionError
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan, Route
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages

pytestmark = pytest.mark.subprocess


def doctor(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, list(words), standalone_mode=False)
    assert result.exception is None, result.exception
    return int(result.return_value), result.output


def runs(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_an_environment_whose_base_is_gone_goes_on_with_another_of_its_minor_version(tmp_path: Path) -> None:
    base = tmp_path / "base" / "bin" / "python3"
    base.parent.mkdir(parents=True)
    base.symlink_to(os.path.realpath(sys.executable))
    python = make_venv(tmp_path / "env", with_pip=False)
    install(python, make_wheel(tmp_path, "peft", "0.21.2", {"peft/__init__.py": "HERE = 'yes'\n"}))
    python.unlink()
    python.symlink_to(base)
    base.unlink()
    code, shown = doctor("--python", str(python))
    assert code == 1
    assert "CAUSE [base-python-gone]" in shown
    assert f"{base} does not exist" in shown
    code, shown = doctor("--python", str(python), "--fix", "--yes")
    assert code == 0, shown
    assert runs(python, "import peft; print(peft.HERE)") == "yes"


def test_a_python_that_does_not_start_is_a_finding_of_its_environment(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "env", with_pip=False)
    python.unlink()
    python.write_text("#!/bin/sh\necho 'error while loading shared libraries: libpython3.11.so.1.0' >&2\nexit 127\n")
    python.chmod(0o755)
    code, shown = doctor("--python", str(python))
    assert code == 1
    assert "CAUSE [interpreter-broken]" in shown
    assert "libpython3.11.so.1.0" in shown


def test_what_is_no_python_and_no_environment_is_a_wrong_request() -> None:
    result = CliRunner().invoke(command, ["--python", "/bin/ls"])
    assert isinstance(result.exception, ProvisionError)
    assert result.exception.code == "no-inventory"


def test_an_environment_under_an_awkward_path_is_copied_to_a_plain_one_and_stays(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "my 环境" / "unsloth env")
    install(python, make_wheel(tmp_path, "peft", "0.21.2", {"peft/__init__.py": ""}))
    code, shown = doctor("--python", str(python), "--fix", "--yes")
    assert code == 0
    assert "path-not-ascii: " in shown
    assert "[path-not-ascii]" not in shown.rpartition("in Python")[2], "the copy is what was examined last"
    assert not list((tmp_path / "unsloth_env").rglob(f"*{BEFORE}*"))
    moved = tmp_path / "unsloth_env" / "bin" / "python"
    assert runs(moved, "import peft, sys; print(sys.prefix)") == str(tmp_path / "unsloth_env")
    pip = subprocess.run([moved.parent / "pip", "--version"], check=True, capture_output=True, text=True).stdout
    assert str(tmp_path / "unsloth_env") in pip
    activate = (moved.parent / "activate").read_text()
    assert "环境" not in activate
    assert python.exists(), "the original stays"


def test_a_neighbour_whose_name_only_begins_like_the_copied_one_stays_where_it_is(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "a b", with_pip=False)
    lines = f"{tmp_path / 'a b' / 'src'}\n{tmp_path / 'a b2'}\n{tmp_path / 'a b'}\n"
    (site_packages(python) / "paths.pth").write_text(lines)
    copy_venv(tmp_path / "a b", tmp_path / "c")
    assert (site_packages(tmp_path / "c" / "bin" / "python") / "paths.pth").read_text().splitlines() == [
        str(tmp_path / "c" / "src"),
        str(tmp_path / "a b2"),
        str(tmp_path / "c"),
    ]


def test_a_copy_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "a b", with_pip=False)
    (tmp_path / "taken").mkdir()
    with pytest.raises(ProvisionError, match="exists already"):
        copy_venv(tmp_path / "a b", tmp_path / "taken")
    unreadable = site_packages(python) / "x"
    os.mkfifo(unreadable)
    with pytest.raises(ProvisionError):
        copy_venv(tmp_path / "nothing", tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "taken"]


def test_environments_that_are_easily_mistaken_are_told_apart_by_their_prompt(tmp_path: Path) -> None:
    make_venv(tmp_path / "unsloth_env", with_pip=False)
    python = make_venv(tmp_path / "unsloth_env_v2", with_pip=False)
    install(python, make_wheel(tmp_path, "torch", "2.13.0", {"torch/__init__.py": "__version__ = '2.13.0'\n"}))
    assert "[environment-name-conflict]" in doctor("--python", str(python))[1]
    code, shown = doctor("--python", str(python), "--fix", "--yes")
    assert code == 0
    assert "[environment-name-conflict]" not in shown.rpartition("in Python")[2]
    prompt = subprocess.run(
        ["bash", "-c", f". '{python.parent}/activate'; echo $VIRTUAL_ENV_PROMPT"], check=True, capture_output=True, text=True
    ).stdout
    assert "unsloth_env_v2:torch-2.13.0" in prompt
    assert runs(python, "import torch; print(torch.__version__)") == "2.13.0"


def test_two_environments_active_at_once_are_found_by_the_python_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, other = make_venv(tmp_path / "one", with_pip=False), make_venv(tmp_path / "other", with_pip=False)
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "one"))
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    assert "[two-environments-active]" not in doctor("--python", str(python))[1]
    monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
    assert f"first python on PATH: {other}" in doctor("--python", str(python))[1]


def managed(name: str, folder: Path, activation: dict[str, str]) -> None:
    """An environment of our own in which flash-attn lies outside xformers' range, as a plan may want it."""
    plan = Plan("ampere", Route.WHEEL, "3.11", "2.8.0", None, None, activation=activation)
    with store.new_generation(name) as generation:
        python = make_venv(generation.prefix, with_pip=False)
        kernels: dict[str, str | bytes] = {"flash_attn/__init__.py": "", "flash_attn_2_cuda.so": b"\x7fELF"}
        install(
            python,
            make_wheel(folder, "flash-attn", "2.8.3", kernels),
            make_wheel(folder, "xformers", "0.0.32.post2", {"xformers/__init__.py": "", "xformers/ops.py": ""}),
        )
        generation.commit(Manifest(name, generation.id, "venv", "2026-11-27T00:00:00+00:00", "0", plan, Machine(), "0" * 64))


def test_an_environment_of_our_own_is_examined_as_its_activation_sets_it(tmp_path: Path) -> None:
    managed("unsloth_env", tmp_path, {})
    assert "[xformers-flash-attn-range]" in doctor("unsloth_env")[1]
    managed("unsloth_env_v2", tmp_path, {"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"})
    shown = doctor("unsloth_env_v2")[1]
    assert "[xformers-flash-attn-range]" not in shown
    assert "unsloth_env_v2 is easily mistaken for unsloth_env" in shown, "by its name, not by its generation's"
