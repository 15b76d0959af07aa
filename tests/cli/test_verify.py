"""``provision verify`` as a user sees it."""

from __future__ import annotations

import json
import subprocess
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.cli.app import _run
from provisioner.cli.console import Output
from provisioner.cli.verify import failure
from provisioner.cli.verify_text import show
from provisioner.codec import from_json, read_json, to_json
from provisioner.environments import store
from provisioner.environments.activation import entered
from provisioner.environments.manifest import Manifest
from provisioner.environments.proof import keep, prove
from provisioner.errors import VerificationFailed
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan, Route
from provisioner.verifying.receipt import Check, Outcome, Receipt
from provisioner.verifying.speed_report import slower_than_sdpa
from tests.conftest import Mount

RECEIPT = Receipt(
    made_at="2026-11-24T23:00:00+00:00",
    mode="quick",
    versions={"torch": "2.11.0"},
    devices=("NVIDIA H100 (9.0)",),
    checks=(
        Check("import torch", Outcome.PASSED),
        Check("flash-attn 2: func fp16 d64 h4/4 n113", Outcome.FAILED, "dq", "wrong-numbers", 2e-2, 1e-3, 0.1, 0),
        Check("flash-attn 2: func fp16 d64 h4/4 n113 alibi", Outcome.EXPECTED_REFUSAL, "no alibi", device=0),
    ),
    timings=tuple(
        {"implementation": name, "seqlen": 1024, "pass": "forward", "ms": ms, "tflops": 100.0, "dtype": "bf16", "head_dim": 128}
        for name, ms in (("flash-attn 2", 2.0), ("sdpa cudnn", 1.0))
    ),
)


def test_a_failed_receipt_ends_in_exit_7_with_the_code_of_the_first_fault() -> None:
    error = failure(RECEIPT, "provision doctor NAME")
    assert (error.exit_code, error.code) == (7, "wrong-numbers")


def test_the_text_names_the_failed_check_and_prints_the_table_of_times(capsys: pytest.CaptureFixture[str]) -> None:
    show(RECEIPT, Output(color=False))
    text = capsys.readouterr().out
    assert "failed [wrong-numbers] flash-attn 2: func fp16 d64 h4/4 n113" in text
    assert "flash-attn against SDPA on this GPU" in text
    assert "2.000" in text


def test_the_text_says_how_far_off_what_the_code_means_and_how_to_read_a_case(capsys: pytest.CaptureFixture[str]) -> None:
    many = tuple(replace(RECEIPT.checks[1], name=f"flash-attn 2: func fp16 d64 h4/4 n{n}") for n in range(9))
    show(replace(RECEIPT, checks=(*many, Check("kernels on the GPU", Outcome.SKIPPED, "not run: import torch failed"))), Output())
    text = capsys.readouterr().out
    assert "dq is off by 2.0e-02 of its largest value, 1.0e-03 is allowed" in text
    assert text.count("failed [wrong-numbers] flash-attn 2") == 5
    assert "failed [wrong-numbers] 4 more" in text
    assert "training with it goes wrong silently" in text
    assert "d head dim, h query/key heads" in text
    assert "skipped kernels on the GPU: not run: import torch failed" in text


def test_rows_name_their_gpu_where_there_are_several(capsys: pytest.CaptureFixture[str]) -> None:
    show(RECEIPT, Output())
    assert "func (GPU 0)" not in capsys.readouterr().out
    show(replace(RECEIPT, checks=(*RECEIPT.checks, replace(RECEIPT.checks[1], device=1))), Output())
    text = capsys.readouterr().out
    assert "func (GPU 0)" in text
    assert "func (GPU 1)" in text


def test_the_table_of_times_speaks_of_flash_attn_only_where_it_was_timed(capsys: pytest.CaptureFixture[str]) -> None:
    show(replace(RECEIPT, timings=RECEIPT.timings[1:]), Output())
    assert "SDPA's backends on this GPU" in capsys.readouterr().out


def test_what_only_imported_is_not_called_passed(capsys: pytest.CaptureFixture[str]) -> None:
    imported = replace(RECEIPT, checks=RECEIPT.checks[:1], timings=())
    assert "imports only" in imported.summary
    assert "imports only" not in RECEIPT.summary
    show(imported, Output())
    assert "no attention was computed" in capsys.readouterr().out


def test_a_slower_flash_attn_is_a_warning_with_the_factor() -> None:
    (warning,) = slower_than_sdpa(RECEIPT.timings)
    assert "2.00 times sdpa cudnn's time at 1024 tokens" in warning


def test_a_receipt_survives_its_file() -> None:
    assert from_json(to_json(RECEIPT), Receipt) == RECEIPT


def test_a_missing_interpreter_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["verify", "--python", str(tmp_path / "python")]) == 2
    assert "no interpreter" in capsys.readouterr().err


RECEIPTS = sorted((Path(__file__).resolve().parents[2] / "docs" / "receipts").glob("h100-*.json"))


@pytest.mark.parametrize("path", [path for path in RECEIPTS if path.stem != "h100-wrong-builds"], ids=lambda path: path.stem)
def test_a_receipt_of_the_documentation_is_one(path: Path) -> None:
    receipt = read_json(path, Receipt)
    assert set(receipt.devices) == {"NVIDIA H100 80GB HBM3 (9.0)"}
    assert receipt.computed
    if receipt.stages:  # receipts from 2026-11-27 on
        seconds = receipt.seconds_after_imports / len(receipt.devices)
        assert seconds <= {"quick": 30, "full": 180}[receipt.mode]


def test_each_wrong_build_of_the_documentation_ends_as_planted() -> None:
    for build, found in json.loads(next(path for path in RECEIPTS if path.stem == "h100-wrong-builds").read_text()).items():
        receipt = from_json(json.dumps(found["receipt"]), Receipt)
        assert {check.code for check in receipt.checks if check.code} == ({found["planted"]} if found["planted"] else set()), (
            build
        )


@pytest.mark.parametrize("words", [["env", "--python", "/usr/bin/python3"], ["../env"], ["nothing"]])
def test_what_does_not_name_one_environment_is_a_usage_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["verify", *words]) == 2
    assert capsys.readouterr().err.startswith("error[")


TORCH = """
__version__ = "2.13.0"
class version: cuda = None
class cuda:
    device_count = staticmethod(lambda: 0)
    get_arch_list = staticmethod(list)
"""
OPS = "import os\nif not os.environ.get('XFORMERS_IGNORE_FLASH_VERSION_CHECK'): raise ImportError('Requires Flash-Attention')\n"


def made(activation: dict[str, str], *, backend: str = "venv") -> store.Environment:
    """An environment with a torch that sees no GPU and an xformers that asks for a variable."""
    plan = replace(Plan("cpu", Route.NONE, "3.11", "2.13.0", None, None), activation=activation, backend=backend)
    with store.new_generation("env") as generation:
        venv.create(generation.prefix, symlinks=True)
        (site,) = generation.prefix.glob("lib/python*/site-packages")
        for name, text in {"torch/__init__.py": TORCH, "xformers/__init__.py": "", "xformers/ops.py": OPS}.items():
            (site / name).parent.mkdir(exist_ok=True)
            (site / name).write_text(text)
        return generation.commit(
            Manifest("env", generation.id, backend, "2026-11-27T00:00:00+00:00", "0", plan, Machine(), "0" * 64)
        )


@pytest.mark.integration
def test_the_variables_of_an_environment_hold_in_its_checks_and_its_receipt_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    made({"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"})
    assert _run(["verify", "env", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["passed"], document["error"]) == (True, None)
    kept = store.find("env").manifest.receipt
    assert kept is not None
    assert [check.name for check in kept.checks if check.outcome is Outcome.PASSED] == ["import torch", "import xformers.ops"]
    assert kept.verdict == "imports only"


@pytest.mark.integration
def test_an_environment_of_ours_is_entered_also_where_its_interpreter_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = made({"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"})
    assert _run(["verify", "--python", str(environment.prefix), "--receipt", str(tmp_path / "r.json")]) == 0
    assert "import xformers.ops" in [check.name for check in read_json(tmp_path / "r.json", Receipt).checks]


@pytest.mark.integration
@pytest.mark.parametrize("package", ["peft-0.18.0", "flash_attn-2.8.3"])
def test_a_package_without_metadata_fails_and_leaves_the_environment_readable(
    package: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a killed pip or a full disk leaves: a .dist-info without METADATA, of which Python says that its version is None."""
    prefix = made({"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"}).prefix
    next(prefix.glob("lib/python*/site-packages")).joinpath(f"{package}.dist-info").mkdir()
    for _ in range(2):
        assert _run(["verify", "env"]) == 7
        assert "metadata-missing" in capsys.readouterr().out
    kept = store.find("env").manifest.receipt
    assert kept is not None
    assert kept.versions == {}


@pytest.mark.integration
def test_a_receipt_that_cannot_be_written_is_refused_before_the_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    environment = made({})
    assert _run(["verify", "env", "--receipt", str(tmp_path / "file" / "r.json")]) == 2
    assert "file-refused" in capsys.readouterr().err
    assert store.find("env").manifest.receipt == environment.manifest.receipt is None


@pytest.mark.integration
def test_a_read_only_environment_is_verified_all_the_same(
    mounted: Mount, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = mounted("size=64m")
    monkeypatch.setenv("PROVISION_DATA_DIR", str(disk))
    made({"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"})
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    assert _run(["verify", "env"]) == 0
    said = capsys.readouterr()
    assert "imports passed" in said.out
    assert "the receipt is not kept" in said.err


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "1e11"])
def test_a_limit_that_is_none_is_refused(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["verify", "--check-timeout", seconds]) == 2


@pytest.mark.integration
def test_a_failure_is_one_document_that_holds_receipt_and_error(capsys: pytest.CaptureFixture[str]) -> None:
    made({})
    assert _run(["verify", "env", "--json"]) == 7
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert document["error"]["hints"] == ["provision doctor env"]
    assert document["error"]["exit_code"] == 7
    assert [check["outcome"] for check in document["receipt"]["checks"]] == ["passed", "failed", "skipped"]
    assert "import xformers.ops" in said.err


@pytest.mark.integration
def test_what_a_conda_prefix_sets_when_it_is_entered_is_known() -> None:
    prefix = made({"OURS": "a b"}, backend="conda").prefix
    (prefix / "conda-meta").mkdir()
    (prefix / "etc" / "conda" / "activate.d").mkdir(parents=True)
    (prefix / "etc" / "conda" / "activate.d" / "gcc.sh").write_text("echo hello\nexport CC=x86_64-conda-linux-gnu-cc\n")
    found = entered(prefix, store.find("env").manifest.plan, {"PATH": "/usr/bin:/bin", "SAME": "1"})
    assert (found["CC"], found["OURS"]) == ("x86_64-conda-linux-gnu-cc", "a b")
    assert found["PATH"].startswith(str(prefix / "bin"))
    assert "SAME" not in found


@pytest.mark.integration
def test_beside_what_somebody_else_answers_for_only_flash_attns_own_failures_count() -> None:
    environment = made({})
    (site,) = environment.prefix.glob("lib/python*/site-packages")
    (site / "xformers" / "ops.py").write_text("")
    (site / "bitsandbytes.py").write_text("raise ImportError('no library for this CUDA')")
    with pytest.raises(VerificationFailed, match="import bitsandbytes failed"):
        prove(environment.python, environment.manifest.plan, gpu=False)
    receipt = prove(environment.python, environment.manifest.plan, gpu=False, beside=True)
    assert [check.name for check in receipt.checks if check.outcome is Outcome.FAILED] == ["import bitsandbytes"]
    with pytest.raises(VerificationFailed, match="kernels on the GPU failed"):
        prove(environment.python, environment.manifest.plan, gpu=True, beside=True)


@pytest.mark.integration
def test_a_proof_on_a_gpu_is_not_replaced_by_one_that_only_imported() -> None:
    environment = made({})
    computed = replace(RECEIPT, checks=(Check("flash-attn 2: func", Outcome.PASSED, "dq", None, 1e-4, 1e-3),))
    keep(environment, computed)
    keep(store.find("env"), replace(RECEIPT, checks=(Check("import torch", Outcome.PASSED),)))
    assert store.find("env").manifest.receipt == computed
    keep(store.find("env"), RECEIPT)
    assert store.find("env").manifest.receipt == RECEIPT, "a failure is news"
