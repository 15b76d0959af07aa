"""Several GPUs: each is verified by children that see it alone, as it is named, and a fault of one is not another's.

There is no GPU here, so a program stands in for the environment's Python: it reports what children of a machine with GPUs report.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import pytest

from provisioner.verifying.receipt import Outcome, Receipt
from provisioner.verifying.verify import verify

pytestmark = pytest.mark.integration

STAND_IN = """
    import json, os, sys
    if "-c" in sys.argv:
        sys.stdout.write("3 12")
        sys.exit()
    work = sys.argv[-1]
    job = json.load(open(work + "/job.json"))
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    with open(LOG, "a") as log:
        print(json.dumps([job["stage"], shown]), file=log)
    def emit(event, **fields):
        with open(work + "/events.jsonl", "a") as events:
            print(json.dumps({"event": event, **fields}), file=events)
    def check(name, **end):
        emit("begin", name=name, call=name, refused=None, refusal="required")
        if job["stage"] == "kernels" and shown == BROKEN:
            os._exit(7)
        emit("end", name=name, status="returned", seconds=0.1, said="", **end)
    emit("loaded", seconds=0.5)
    if job["stage"] == "imports":
        emit("software", versions={"torch": "2.11.0", "flash-attn": "2.8.3", "unsloth": "2026.10.9"}, extensions=[], provenance=None)
        emit("devices", devices=GPUS, torch_cuda="12.8", torch_archs=[], detail=DETAIL, unopened=UNOPENED)
        check("import torch")
    else:
        check(job["stage"], error=0.001, limit=0.002)
    emit("finished")
"""

H100, A10 = (
    {"name": name, "compute_capability": capability, "memory_mib": 80000, "uuid": "GPU-6a7b"}
    for name, capability in (("NVIDIA H100", "9.0"), ("NVIDIA A10", "8.6"))
)


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *gpus: dict[str, object],
    visible: str | None = None,
    broken: str = "none",
    mode: str = "quick",
    detail: str = "",
    unopened: int = 0,
) -> tuple[Receipt, list[tuple[str, str | None]]]:
    """Verify a machine with these GPUs and return the receipt and each child's stage and ``CUDA_VISIBLE_DEVICES``."""
    log = folder / "log"
    text = (
        textwrap.dedent(STAND_IN)
        .replace("LOG", repr(str(log)))
        .replace("GPUS", repr([{"index": index, **gpu} for index, gpu in enumerate(gpus) if gpu]))
        .replace("BROKEN", repr(broken))
        .replace("DETAIL", repr(detail))
        .replace("UNOPENED", str(unopened))
    )
    python = folder / "bin" / "python"
    (folder / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    python.parent.mkdir()
    (folder / "pyvenv.cfg").write_text("version = 3.12.3\n")
    python.write_text(f"#!{sys.executable}\n{text}")
    python.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    receipt = verify(python, mode=mode)
    return receipt, [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def test_each_gpu_has_its_own_children_that_see_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, children = run(tmp_path, monkeypatch, H100, A10)
    stages = ("kernels", "libraries", "finetuning")
    assert children == [("imports", None), *((stage, gpu) for gpu in ("0", "1") for stage in stages)]
    assert receipt.devices == ("NVIDIA H100 (9.0)", "NVIDIA A10 (8.6)")
    assert [(stage.name, stage.device) for stage in receipt.stages][1:] == [(stage, gpu) for gpu in (0, 1) for stage in stages]
    assert {check.device for check in receipt.checks if check.name in stages} == {0, 1}
    assert receipt.verdict == "yes"


@pytest.mark.parametrize(
    ("mode", "broken", "asked"), [("quick", "none", ["0"]), ("quick", "0", ["0", "1"]), ("full", "none", ["0", "1", "2"])]
)
def test_quick_asks_libraries_once_for_each_model_of_gpu_whose_kernels_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, broken: str, asked: list[str]
) -> None:
    _, children = run(tmp_path, monkeypatch, H100, H100, H100, broken=broken, mode=mode)
    assert [shown for stage, shown in children if stage == "kernels"] == ["0", "1", "2"]
    assert [shown for stage, shown in children if stage == "libraries"] == asked


@pytest.mark.parametrize("visible", ["1,0", "GPU-6a7b,GPU-11", "MIG-6a7b, MIG-11"])
def test_devices_are_named_as_the_user_named_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    _, children = run(tmp_path, monkeypatch, H100, H100, visible=visible)
    first, second = visible.replace(" ", "").split(",")
    assert [shown for stage, shown in children if stage == "kernels"] == [first, second]


def test_one_gpu_that_nothing_selects_is_left_so_since_no_index_names_a_mig_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, children = run(tmp_path, monkeypatch, H100)
    assert {shown for _, shown in children} == {None}


def test_a_gpu_that_fails_does_not_fail_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, _ = run(tmp_path, monkeypatch, H100, A10, broken="1")
    assert {(check.device, check.code) for check in receipt.checks if check.outcome is Outcome.FAILED} == {(1, "crashed")}
    assert any(check.device == 0 and check.name == "kernels" and check.outcome is Outcome.PASSED for check in receipt.checks)
    assert receipt.verdict == "no"


def test_a_gpu_that_does_not_open_fails_and_the_others_are_verified_under_their_own_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cannot be used; what is there of it is the error that torch gave."""
    receipt, children = run(tmp_path, monkeypatch, {}, H100, detail="GPU 0: RuntimeError: CUDA error: unknown error")
    assert [shown for stage, shown in children if stage == "kernels"] == ["1"]
    failed = [check for check in receipt.checks if check.outcome is Outcome.FAILED]
    assert [(check.name, check.code) for check in failed] == [("every GPU opens", "cuda-error")]
    assert "GPU 0" in failed[0].detail


@pytest.mark.parametrize(
    ("detail", "code"),
    [
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)", "driver-too-old"),
        ("RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", "cuda-unavailable"),
    ],
)
def test_gpus_none_of_which_opens_are_no_machine_without_a_gpu(
    detail: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, _ = run(tmp_path, monkeypatch, detail=detail)
    assert [(check.outcome, check.code) for check in receipt.checks if check.name == "kernels on the GPU"] == [
        (Outcome.FAILED, code)
    ]


def test_a_gpu_that_the_driver_lists_and_cuda_does_not_open_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, _ = run(tmp_path, monkeypatch, H100, unopened=1)
    assert receipt.passed
    assert "lists 1 more" in receipt.warnings[-1]


def test_a_gpu_without_the_shared_memory_for_head_dim_256_is_not_asked_for_what_no_kernel_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, _ = run(tmp_path, monkeypatch, H100, A10)
    assert [text for text in receipt.warnings if "head dim 256 with dropout" in text]


def test_no_receipt_holds_what_tells_one_card_from_another_of_its_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receipt, _ = run(tmp_path, monkeypatch, H100)
    assert "6a7b" not in repr(receipt)
