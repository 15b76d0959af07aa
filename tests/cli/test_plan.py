"""``provision plan`` and ``provision recipes`` as the user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.cli.app import _run
from provisioner.codec import to_json
from tests.planning.machines import machine
from tests.planning.own_wheels import build_key, store

H100 = machine(
    "NVIDIA H100 80GB HBM3=9.0",
    "580.65.06",
    "2.36",
    pythons="3.11",
    gcc="12.2",
    dead="conda-channel torch-index releases",
)


@pytest.fixture
def box(tmp_path: Path) -> str:
    path = tmp_path / "machine.json"
    path.write_text(to_json(H100))
    return str(path)


def test_the_document_has_the_names_of_the_contract(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plan", "--machine", box, "--head-dims", "128", "--dtypes", "bf16", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    plan = document["plan"]
    assert (plan["recipe"], plan["route"], plan["python"], plan["torch"], plan["cuda"]) == (
        "ampere",
        "source",
        "3.11",
        "2.13.0",
        "13.0",
    )
    assert plan["flash_attn"]["version"] == "2.8.3.post2"
    assert plan["flash_attn"]["archs"] == ["sm_90"]
    assert plan["flash_attn"]["sha256"]
    assert plan["flash_attn"]["kernels"]["head_dims"] == [128]
    assert (plan["xformers"], plan["triton"], plan["toolkit"], plan["cxx_standard"]) == ("0.0.35", "3.7.1", "13.0", 17)
    assert (plan["backend"], plan["gpu_classes"]) == ("venv", ["sm_90"])
    assert {"torch==2.13.0", "xformers==0.0.35", "triton==3.7.1", "unsloth_zoo", "bitsandbytes", "trl", "peft", "einops"} <= set(
        plan["requirements"]
    )
    assert all({"id", "accepted", "code", "reason"} <= set(candidate) for candidate in plan["candidates"])
    assert document["machine"]["gpus"][0]["compute_capability"] == "9.0"


def test_explain_shows_every_wheel_by_its_reason(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plan", "--machine", box, "--explain"]) == 0
    text = capsys.readouterr().out
    assert "source-unreachable" in text
    assert "torch-too-old" in text
    assert _run(["plan", "--machine", box, "--explain", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["plan"]["candidates"]) > 5_000


def test_a_refusal_leaves_with_3_and_says_what_works(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plan", "--machine", box, "--gpu", "V100", "--driver", "580.65.06", "--cuda", "13.0", "--explain"]) == 3
    captured = capsys.readouterr()
    assert "torch-lacks-arch" in captured.out
    assert "next: without --cuda 13.0" in captured.err
    assert _run(["plan", "--machine", box, "--gpu", "GTX 1080 Ti", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "arch-unsupported-pascal"


def test_an_unknown_gpu_leaves_with_2(box: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["plan", "--machine", box, "--gpu", "RTX 4099"]) == 2
    assert "4090" in capsys.readouterr().err


def test_recipes_are_listed_shown_and_checked(box: str, capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    assert _run(["recipes", "list"]) == 0
    assert "volta" in capsys.readouterr().out
    assert _run(["recipes", "show", "ampere"]) == 0
    assert "2.13.0" in capsys.readouterr().out
    assert _run(["recipes", "check", str(repository / "recipes" / "ampere.toml")]) == 0
    assert _run(["recipes", "show", "amper"]) == 2


def test_a_bad_recipe_leaves_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("schema = 1\n")
    assert _run(["recipes", "check", str(path)]) == 1
    assert "missing required field" in capsys.readouterr().out


def test_a_bad_recipe_gives_one_document_which_names_a_misspelt_key_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(
        'schema = 1\nname = "bad"\ntitle = "bad"\nchecked = "2026-11-27"\n[match]\ncompute_capability = ">=9.0"\n'
        '[[stacks]]\nroute = "wheel"\ntorch = "2.13.0"\ncuda = "13.0"\npythons = ["3.12"]\nflash_atn = ["2.8.3"]\n'
    )
    assert _run(["recipes", "check", str(path), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["recipes"][str(path)]
    assert any("names no flash_attn" in problem for problem in problems)
    assert any("no recipe has the key stacks.flash_atn" in problem for problem in problems)


def test_a_wheel_of_the_own_wheelhouse_is_taken_and_named_by_its_file(
    box: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = store(tmp_path / "house", build_key(python="3.11"))
    monkeypatch.setenv("PROVISION_WHEELHOUSE", str(tmp_path / "house"))
    assert _run(["plan", "--machine", box, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert (plan["route"], plan["flash_attn"]["trust"], plan["flash_attn"]["sha256"]) == ("wheel", "wheelhouse", stored.sha256)
    assert plan["flash_attn"]["url"].startswith("file://")
    assert plan["flash_attn"]["filename"] == stored.path.name


def test_a_recipe_of_the_users_folder_plans_its_machines(
    box: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Path
) -> None:
    folder = tmp_path / "recipes"
    folder.mkdir()
    text = (repository / "recipes" / "ampere.toml").read_text(encoding="utf-8")
    (folder / "house.toml").write_text(
        text.replace('name = "ampere"', 'name = "house"').replace(">=8.0", ">=9.0", 1), encoding="utf-8"
    )
    assert _run(["plan", "--machine", box, "--recipes", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["recipe"] == "house"
    assert _run(["plan", "--machine", box, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"]["recipe"] == "ampere"
