"""The other generations' functions, called as they are declared: 1.x, FA3 and FA4 in plain torch with upstream's signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.verifying.child_process import ChildRun, Job, run_child
from provisioner.verifying.expectation import Expectation, settle
from provisioner.verifying.judging import judge
from provisioner.verifying.receipt import Check, Outcome
from tests.verifying.conftest import PLAIN

pytestmark = pytest.mark.integration

GENERATIONS = Path(__file__).resolve().parent / "generations"


def run(
    python: Path,
    version: str,
    *names: str,
    fault: str = "",
    stage: str = "kernels",
    lengths: tuple[int, ...] = (),
    environment: dict[str, str] | None = None,
) -> ChildRun:
    """Verify stand-ins of generations; timed only where ``lengths`` are given."""
    expect = settle(Expectation(), versions={"flash-attn": version}, provenance=None)
    paths = tuple(map(str, (*(GENERATIONS / name for name in names), PLAIN)))
    job = Job(stage, "quick", "cpu", expect, 60.0, paths=paths, lengths=lengths, speed=bool(lengths))
    return run_child(python, job, timeout=180, environment={"FAULT": fault, "OMP_NUM_THREADS": "1", **(environment or {})})


def failed(run: ChildRun) -> list[Check]:
    return [check for check in judge(run) if check.outcome is Outcome.FAILED]


def test_generation_1_is_called_with_its_own_functions_and_its_own_alignment(torch_python: Path) -> None:
    done = run(torch_python, "1.0.9", "one")
    assert failed(done) == []
    assert done.last("plan")["interfaces"] == ["flash-attn 1 1.0.9"]
    measured = {check.name.split()[2] for check in judge(done) if check.error is not None}
    assert measured == {"varlen", "varlen_qkvpacked", "varlen_kvpacked"}
    assert any("dropout" in check.name for check in judge(done))


@pytest.mark.slow
def test_a_causal_mask_aligned_as_in_2x_is_wrong_in_1x(torch_python: Path) -> None:
    wrong = failed(run(torch_python, "1.0.9", "one", fault="other-alignment"))
    assert wrong
    assert all(check.code == "wrong-numbers" and "203:301 causal" in check.name for check in wrong)


def test_generations_3_and_4_are_measured_side_by_side_within_what_fa3_was_built_with(torch_python: Path) -> None:
    done = run(torch_python, "", "three", "four")
    assert failed(done) == []
    assert done.last("plan")["interfaces"] == ["flash-attn 3 3.0.0", "flash-attn 4 4.0.0b36"]
    names = [check.name for check in judge(done) if check.error is not None]
    third = [name for name in names if name.startswith("flash-attn 3")]
    assert any("kvcache" in name and "paged" in name for name in third)
    assert any("window" in name for name in third)
    assert any("d256" in name for name in third)
    assert not any(word in name for name in third for word in ("fp16", "d192", "splits")), "its build flags leave these out"
    assert any("varlen" in name for name in names if name.startswith("flash-attn 4"))


@pytest.mark.parametrize(("left_out", "head_dim"), [("BACKWARD", 128), ("HDIM128", 256)])
def test_what_an_fa3_leaves_out_is_neither_computed_nor_timed(left_out: str, head_dim: int, torch_python: Path) -> None:
    done = run(torch_python, "", "three", lengths=(64,), environment={"LEFT_OUT": left_out})
    assert failed(done) == []
    rows = [event for event in done.events if event["event"] == "timing" and event["implementation"] == "flash-attn 3"]
    assert {row["head_dim"] for row in rows} == {head_dim}
    assert ("forward+backward" in {row["pass"] for row in rows}) == (left_out != "BACKWARD")


@pytest.mark.slow
def test_a_wrong_scale_is_seen_in_each_generation(torch_python: Path) -> None:
    wrong = failed(run(torch_python, "", "three", "four", fault="wrong-scale"))
    assert {check.name[:12] for check in wrong} == {"flash-attn 3", "flash-attn 4"}
    assert {check.code for check in wrong} == {"wrong-numbers"}


def test_a_folder_without_an_init_is_not_taken_for_flash_attn(torch_python: Path) -> None:
    checks = judge(run(torch_python, "", "four", stage="imports"))
    assert {"import flash_attn.cute"} == {check.name for check in checks if "flash_attn" in check.name}
