"""`provision build --adapter` as a user types it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from provisioner.cli.app import _run


def test_the_wheel_over_pytorchs_kernels_is_made_at_once(tmp_path: Path) -> None:
    assert _run(["build", "--adapter", "aten", "-o", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["flash_attn-2.8.3+aten-py3-none-any.whl"]


def test_it_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheel = tmp_path / "flash_attn-2.8.3+aten-py3-none-any.whl"
    assert _run(["build", "--adapter", "aten", "-o", str(tmp_path), "--quiet"]) == 0
    assert _run(["inspect", str(wheel), "--gpu", "7.0"]) == 0
    text = capsys.readouterr().out
    assert "note: Adapter: the functions of flash-attn 2.8.3 over PyTorch's own attention kernels" in text
    assert "it holds no device code" in text
    site = tmp_path / "env" / "lib" / "python3.12" / "site-packages"
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(site)
    assert _run(["inspect", str(tmp_path / "env")]) == 0
    assert "note: Adapter: " in capsys.readouterr().out


def test_the_base_version_can_be_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["build", "--adapter", "aten", "--base-version", "2.8.1", "-o", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["build"]["version"] == "2.8.1+aten"


def test_a_dry_run_says_that_nothing_is_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["build", "--adapter", "aten", "--dry-run"]) == 0
    assert "nothing is compiled" in capsys.readouterr().out
    assert _run(["build", "--adapter", "aten", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["units"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("aten", "--arch", "sm_75"),
        ("aten", "--kernels", "full"),
        ("aten", "--version", "2.7.4.post1"),
        ("turing109", "--version", "1.0.9"),
        ("turing109", "--head-dims", "64"),
        ("turing109", "--source", "tree"),
        ("aten", "--base-version", "1.0.9"),
        ("aten", "--cxx", "g++"),
        ("aten", "--cuda-home", "/"),
        ("aten", "--fetch-compiler"),
    ],
)
def test_what_means_nothing_for_an_adapter_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert _run(["build", "--adapter", *arguments]) == 2


@pytest.mark.parametrize("dims", ["²", "٣", "64,x"])
def test_what_is_no_head_dim_is_a_usage_error(dims: str) -> None:
    assert _run(["build", "--arch", "sm_90", "--head-dims", dims]) == 2
    assert _run(["plan", "--gpu", "h100", "--head-dims", dims]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["--base-version", "2.8.1"],
        ["--sha256", "0" * 64],
        ["--cuda-home", "/tmp", "--fetch-compiler"],
        ["--source", "tree", "--arch", "sm_70", "--version", "2.6.3"],
        ["--source", "tree", "--arch", "sm_70", "--index-url", "https://mirror.example/simple"],
    ],
)
def test_no_option_is_ignored_in_silence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["build", *words]) == 2
    assert "no meaning" in (text := capsys.readouterr().err) or "exclude each other" in text
