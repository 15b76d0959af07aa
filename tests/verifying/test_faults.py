"""The check itself, on CPU stand-ins: a right attention passes, and every planted fault is caught with its code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark.structures import ParameterSet

from provisioner.verifying.child_process import Job, run_child
from provisioner.verifying.expectation import Expectation, settle
from provisioner.verifying.judging import judge
from provisioner.verifying.receipt import Check, Outcome, Receipt
from provisioner.verifying.verify import verify
from tests.verifying.conftest import STAND_INS

pytestmark = pytest.mark.integration

CLAIMED = Expectation(
    "flash-attn",
    head_dims=(32, 64),
    dtypes=("fp16",),
    features=("backward", "varlen", "local", "softcap", "uneven", "dropout", "kvcache"),
    imports=("torch", "flash_attn"),
)

PLANTED = {
    "wrong-scale": "wrong-numbers",
    "causal-leak": "wrong-numbers",
    "swapped-heads": "wrong-numbers",
    "dropped-backward-term": "wrong-numbers",
    "nan-at-one-length": "wrong-numbers",
    "ignored-window": "wrong-numbers",
    "ignored-softcap": "wrong-numbers",
    "ignored-dropout": "wrong-numbers",
    "dropout-not-rescaled": "wrong-numbers",
    "heads-drop-alike": "wrong-numbers",
    "backward-drops-others": "wrong-numbers",
    "ignored-scale": "wrong-numbers",
    "assumes-contiguous": "wrong-numbers",
    "second-tile-leaks": "wrong-numbers",
    "long-keys-lost": "wrong-numbers",
    "decode-swaps-heads": "wrong-numbers",
    "cache-not-updated": "wrong-numbers",
    "cache-overrun": "wrong-numbers",
    "pages-in-order": "wrong-numbers",
    "rows-ignored": "wrong-numbers",
    "left-padding-ignored": "wrong-numbers",
    "rotary-one-off": "wrong-numbers",
    "refuses-nothing": "not-refused",
    "hang": "hang",
    "crash": "crashed",
    "stub": "stub-kernels",
    "no-kernel-image": "no-kernel-image",
    "illegal-access": "illegal-memory-access",
    "out-of-memory": "cuda-out-of-memory",
}
"""Each planted fault of the stand-in and the code that it must be caught with."""

TELLING = {
    "causal-leak": "causal",
    "swapped-heads": "h6/2",
    "nan-at-one-length": "n1\\+17",
    "ignored-window": "window",
    "ignored-softcap": "softcap",
    "ignored-dropout": "dropout",
    "dropout-not-rescaled": "dropout",
    "heads-drop-alike": "dropout",
    "backward-drops-others": "dropout",
    "ignored-scale": "scale",
    "assumes-contiguous": "heads-first|packed",
    "second-tile-leaks": "d32 .*causal",
    "long-keys-lost": "n1031",
    "decode-swaps-heads": "h6/2 n1:",
    "cache-not-updated": "kvcache",
    "cache-overrun": "kvcache",
    "pages-in-order": "paged",
    "rows-ignored": "rows",
    "left-padding-ignored": "leftpad",
    "rotary-one-off": "rotary",
}
"""What the names of the failed cases match where only some can show the fault: a measure that fails others too would blame the innocent."""


def run(python: Path, fault: str = "", *, paths: tuple[Path, ...] = STAND_INS, check_seconds: float = 60.0) -> Receipt:
    return verify(
        python,
        expectation=CLAIMED,
        device="cpu",
        extra_paths=paths,
        environment={"FAULT": fault, "OMP_NUM_THREADS": "1"},
        check_seconds=check_seconds,
        lengths=(64,),
    )


def failed(receipt: Receipt) -> list[Check]:
    return [check for check in receipt.checks if check.outcome is Outcome.FAILED]


def test_a_right_attention_passes_and_its_refusals_are_passes(torch_python: Path) -> None:
    receipt = run(torch_python)
    assert failed(receipt) == []
    outcomes = [check.outcome for check in receipt.checks]
    assert outcomes.count(Outcome.PASSED) > 20
    refused = {check.name for check in receipt.checks if check.outcome is Outcome.EXPECTED_REFUSAL}
    assert any("alibi" in name for name in refused)
    assert any("d128" in name for name in refused)
    assert any("bf16" in name for name in refused)
    measured = [check for check in receipt.checks if check.error is not None]
    assert any(check.error for check in measured), "errors are measured, not assumed"
    assert {str(row["implementation"]) for row in receipt.timings} >= {"flash-attn 2", "sdpa math"}
    assert receipt.attention["torch"].startswith("sdpa")
    assert [(stage.name, 0 < stage.loading < stage.seconds) for stage in receipt.stages] == [
        (name, True) for name in ("imports", "kernels", "libraries")
    ]
    assert 0 < receipt.seconds_after_imports < receipt.seconds
    assert receipt.machine["python"].startswith("3.")


def faults() -> list[ParameterSet]:
    """The planted faults; all but the gravest are slow ones, since each costs a process with torch in it."""
    quick = {"wrong-scale", "causal-leak", "swapped-heads", "dropped-backward-term", "nan-at-one-length", "ignored-window"}
    quick |= {"refuses-nothing", "stub"}
    return [
        pytest.param(fault, code, id=fault, marks=() if fault in quick else pytest.mark.slow) for fault, code in PLANTED.items()
    ]


@pytest.mark.parametrize(("fault", "code"), faults())
def test_a_planted_fault_is_caught_with_its_code(torch_python: Path, fault: str, code: str) -> None:
    job = Job(
        "kernels",
        "quick",
        "cpu",
        settle(CLAIMED, versions={}, provenance=None),
        60.0,
        paths=tuple(map(str, STAND_INS)),
        speed=False,
    )
    if fault == "hang":
        job = replace(job, check_seconds=3.0)
    checks = judge(run_child(torch_python, job, timeout=120, environment={"FAULT": fault, "OMP_NUM_THREADS": "1"}))
    caught = [check for check in checks if check.outcome is Outcome.FAILED]
    assert code in {check.code for check in caught}
    if fault in TELLING:
        assert all(re.search(TELLING[fault], check.name) for check in caught), [check.name for check in caught]


def test_a_hang_names_the_call_and_the_line_and_what_was_not_run(torch_python: Path) -> None:
    receipt = run(torch_python, "hang", check_seconds=3.0)
    hung = next(check for check in failed(receipt) if check.code == "hang")
    assert "flash_attn.flash_attn_func" in hung.detail
    assert "stand_ins/flash_attn/__init__.py:" in hung.detail
    assert any(check.outcome is Outcome.SKIPPED and "not run" in check.detail for check in receipt.checks)
    assert receipt.seconds < 60


def test_an_undefined_symbol_is_an_abi_mismatch(torch_python: Path, broken_extension: Callable[..., Path]) -> None:
    symbol = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
    folder = broken_extension(f"extern int {symbol}(void); int (*used)(void) = {symbol};")
    receipt = run(torch_python, paths=(folder,))
    (fault,) = failed(receipt)
    assert (fault.name, fault.code) == ("import flash_attn", "undefined-symbol-abi-mismatch")
    assert symbol in fault.detail


def test_a_missing_cuda_runtime_is_named(torch_python: Path, broken_extension: Callable[..., Path]) -> None:
    source = "extern int from_library(void); int (*used)(void) = from_library;"
    receipt = run(torch_python, paths=(broken_extension(source, library="libcudart.so.11.0"),))
    (fault,) = failed(receipt)
    assert (fault.name, fault.code) == ("import flash_attn", "libcudart-missing")


def test_without_flash_attn_torchs_own_choice_must_be_right_and_each_backend_right_or_refusing(torch_python: Path) -> None:
    receipt = verify(torch_python, device="cpu", environment={"OMP_NUM_THREADS": "1"}, lengths=(64,))
    assert failed(receipt) == []
    outcomes: dict[str, set[Outcome]] = {}
    for check in receipt.checks:
        if ": func" in check.name:
            outcomes.setdefault(check.name.partition(":")[0], set()).add(check.outcome)
    assert set(outcomes) == {"sdpa", "sdpa flash", "sdpa cudnn", "sdpa efficient", "sdpa math"}
    assert outcomes["sdpa"] == outcomes["sdpa math"] == {Outcome.PASSED}
    assert outcomes["sdpa cudnn"] == {Outcome.EXPECTED_REFUSAL}, "there is no cuDNN for the CPU"
    assert receipt.attention["torch"].startswith("sdpa")


def test_where_no_gpu_is_visible_a_required_one_is_a_failure(torch_python: Path) -> None:
    receipt = verify(torch_python, expectation=Expectation(gpu=True))
    assert [check.code for check in failed(receipt)] == ["cuda-unavailable"]
