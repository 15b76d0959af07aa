from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.cli.app import _run
from provisioner.paths import replace_symlink
from tests.wheels.conftest import INTERFACE, Environment, make_wheel


@pytest.fixture
def empty_wheel(tmp_path: Path) -> Path:
    return make_wheel(tmp_path / "flash_attn-2.8.3-py3-none-any.whl", {"flash_attn/flash_attn_interface.py": INTERFACE})


def test_the_document_has_the_names_other_tools_rely_on(empty_wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["inspect", str(empty_wheel), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert {"archs", "stubs", "abi", "glibc", "cudart", "torch"} <= set(document)
    assert [reason["code"] for reason in document["reasons"]] == ["no-kernels"]


def test_the_text_says_why_not_and_what_instead(empty_wheel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["inspect", str(empty_wheel)]) == 1
    text = capsys.readouterr().out
    assert "flash_attn_2_cuda" in text
    assert "do not use it: 1 reason" in text
    assert "provision build" in text


def test_a_wheel_without_a_fault_is_not_judged_without_a_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path / "x-1-py3-none-any.whl", {"x.py": ""})
    assert _run(["inspect", str(wheel)]) == 0
    assert "say what for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--gpu", "H100x"], "bad-capability"), (["--against", "/nowhere"], "no-such-environment")],
)
def test_a_wrong_option_is_a_usage_error(
    empty_wheel: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: str
) -> None:
    assert _run(["inspect", str(empty_wheel), *words]) == 2
    assert f"error[{code}]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        ("notes.txt", "neither a wheel nor a compiled file"),
        ("renamed.whl", "not the name of a wheel"),
        ("ftp://host.example/x-1-py3-none-any.whl", "not a protocol"),
        ("no-such-env", "no such file or environment"),
    ],
)
def test_what_cannot_be_inspected_is_refused_for_the_reason_that_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], subject: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("hello")
    make_wheel(tmp_path / "x-1-py3-none-any.whl", {"x.py": ""}).rename("renamed.whl")
    assert _run(["inspect", subject]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert "download broke off" not in text


def test_an_empty_wheel_is_called_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = make_wheel(tmp_path / "flash_attn-2.8.3-py3-none-any.whl", {})
    assert _run(["inspect", str(wheel)]) == 1
    assert "it is empty" in capsys.readouterr().out


@pytest.mark.subprocess
def test_an_environment_is_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    generation = tmp_path / "g" / "a1"
    site = generation / "lib" / "python3.12" / "site-packages"
    Environment(generation, site).install("flash-attn", "2.8.3", {"flash_attn/flash_attn_interface.py": INTERFACE})
    monkeypatch.setenv("PROVISION_ENVS_DIR", str(tmp_path / "envs"))
    replace_symlink(tmp_path / "envs" / "unsloth_env", generation)
    assert _run(["inspect", "unsloth_env"]) == 1
    assert "flash_attn_2_cuda" in capsys.readouterr().out
