"""``provision verify`` as a user sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.cli.app import _run
from provisioner.cli.console import Output
from provisioner.cli.verify import failure, show
from provisioner.codec import from_json, to_json
from provisioner.verifying.receipt import Check, Outcome, Receipt
from provisioner.verifying.speed_report import slower_than_sdpa

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


def test_a_slower_flash_attn_is_a_warning_with_the_factor() -> None:
    (warning,) = slower_than_sdpa(RECEIPT.timings)
    assert "2.00 times sdpa cudnn's time at 1024 tokens" in warning


def test_a_receipt_survives_its_file() -> None:
    assert from_json(to_json(RECEIPT), Receipt) == RECEIPT


def test_a_missing_interpreter_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["verify", "--python", str(tmp_path / "python")]) == 2
    assert "no interpreter" in capsys.readouterr().err
