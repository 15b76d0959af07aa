"""What passes is decided from facts: an error text becomes a code, a death names its check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner.process import Result
from provisioner.verifying import failures
from provisioner.verifying.child_process import CHILD, ChildRun
from provisioner.verifying.failures import classify, is_refusal, of_import
from provisioner.verifying.judging import judge
from provisioner.verifying.receipt import Outcome


def child(*events: dict[str, Any], code: int | None = 0, err: str = "", dump: str = "", timed_out: bool = False) -> ChildRun:
    return ChildRun("kernels", Result(("python",), code, "", err, 1.0, timed_out), events, dump, "")


def begin(name: str, *, call: str = "flash_attn.flash_attn_func", refused: str | None = None) -> dict[str, Any]:
    return {"event": "begin", "name": name, "call": call, "refused": refused, "refusal": "required"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("CUDA error: no kernel image is available for execution on the device", "no-kernel-image"),
        ("flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2E", "undefined-symbol-abi-mismatch"),
        ("ImportError: libcudart.so.12: cannot open shared object file", "libcudart-missing"),
        ("libcudnn.so.9: cannot open shared object file: No such file", "libcudnn-missing"),
        ("/lib64/libc.so.6: version `GLIBC_2.32' not found", "glibc-too-old"),
        ("CUDA error: an illegal memory access was encountered", "illegal-memory-access"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "cuda-out-of-memory"),
        ("FlashAttention only supports Ampere GPUs or newer.", "arch-unsupported"),
        ("Requires Flash-Attention version >=2.7.1,<=2.8.2 but got 2.8.3.", "xformers-flash-attn-range"),
        (
            "Failed to find C compiler. Please specify via CC environment variable or set triton.knobs.build.impl.",
            "no-c-compiler",
        ),
        ("InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')", "no-c-compiler"),
        (
            "Command '['/usr/bin/gcc', '/tmp/a/m.c', '-O3', '-o', '/tmp/a/m.so']' returned non-zero exit status 1.",
            "c-compiler-fails",
        ),
        ("Command '['/usr/bin/nvcc', 'a.cu']' returned non-zero exit status 1.", None),
        ("head dim 96 is not in this build", None),
    ],
)
def test_an_error_text_has_the_code_that_doctor_uses(text: str, code: str | None) -> None:
    assert classify(text) == code


def test_a_refusal_is_a_deliberate_no_and_neither_a_lost_device_nor_a_wrong_call() -> None:
    assert is_refusal("RuntimeError", "This flash attention build does not support softcap.")
    assert not is_refusal("RuntimeError", "CUDA error: no kernel image is available")
    assert not is_refusal("TypeError", "flash_attn_func() got an unexpected keyword argument 'softcap'")


def test_a_missing_package_is_told_from_a_broken_one() -> None:
    assert of_import("flash_attn", "ModuleNotFoundError", "No module named 'flash_attn'") == "package-missing"
    assert of_import("flash_attn", "ModuleNotFoundError", "No module named 'flash_attn_2_cuda'") == "import-failed"
    assert of_import("torch", "OSError", "libtorch.so: file too short") == "torch-import-broken"


def test_an_error_above_its_limit_or_not_finite_is_wrong_numbers() -> None:
    ends = [
        {
            "event": "end",
            "name": name,
            "status": "returned",
            "seconds": 0.1,
            "said": "",
            "error": error,
            "limit": 1e-3,
            "detail": "dq",
        }
        for name, error in (("a", 9e-4), ("b", 2e-3), ("c", None))
    ]
    checks = judge(child(*(begin(name) for name in "abc"), *ends, {"event": "finished"}))
    assert [check.code for check in checks] == [None, "wrong-numbers", "wrong-numbers"]


def test_what_is_not_claimed_and_yet_computed_fails_even_if_it_is_right() -> None:
    end = {"event": "end", "name": "a", "status": "returned", "seconds": 0.1, "said": "", "error": 0.0, "limit": 1e-3}
    (check,) = judge(child(begin("a", refused="alibi"), end, {"event": "finished"}))
    assert (check.outcome, check.code) == (Outcome.FAILED, "not-refused")


def test_a_child_that_dies_leaves_what_it_finished_the_check_it_died_in_and_the_rest_as_not_run() -> None:
    end = {"event": "end", "name": "a", "status": "returned", "seconds": 0.1, "said": "", "error": 0.0, "limit": 1e-3}
    plan = {"event": "plan", "names": ["a", "b", "c"]}
    checks = judge(child(plan, begin("a"), end, begin("b"), code=-11), device=1)
    assert [(check.name, check.outcome, check.code) for check in checks] == [
        ("a", Outcome.PASSED, None),
        ("b", Outcome.FAILED, "crashed"),
        ("c", Outcome.SKIPPED, None),
    ]
    assert "SIGSEGV" in checks[1].detail
    assert {check.device for check in checks} == {1}


def test_a_signal_without_a_name_has_its_number() -> None:
    (check,) = judge(child(begin("a"), code=-42))
    assert "ended by signal 42" in check.detail


def test_a_library_that_prints_its_cuda_error_and_exits_is_classified_by_what_it_printed() -> None:
    err = "CUDA error (fmha_fprop.cu:60): no kernel image is available for execution on the device\n"
    (check,) = judge(child(begin("a"), code=1, err=err))
    assert check.code == "no-kernel-image"


def test_a_hang_names_the_innermost_frame_of_the_main_thread() -> None:
    dump = (
        "Timeout (0:00:05)!\nThread 0x01 (most recent call first):\n"
        '  File "/x/threading.py", line 1 in wait\n\nThread 0x02 (most recent call first):\n'
        '  File "/x/flash_attn/interface.py", line 91 in forward\n  File "/x/a.py", line 2 in main\n'
    )
    (check,) = judge(child(begin("a"), code=1, dump=dump))
    assert check.code == "hang"
    assert "/x/flash_attn/interface.py:91 in forward" in check.detail


def test_files_are_named_from_their_package_on() -> None:
    dump = 'Current thread 0x02 (most recent call first):\n  File "/home/me/env/lib/python3.12/site-packages/torch/cuda/__init__.py", line 9 in synchronize\n'
    (check,) = judge(child(begin("a"), code=1, dump="Timeout (0:00:05)!\n" + dump))
    assert check.detail.endswith("in torch/cuda/__init__.py:9 in synchronize")
    dump += f'  File "{CHILD.parent / "numerics.py"}", line 5 in backward\n  File "{CHILD}", line 3 in main\n'
    (check,) = judge(child(begin("a"), code=1, dump="Timeout (0:00:05)!\n" + dump))
    assert check.detail.endswith("in torch/cuda/__init__.py:9 in synchronize, from backward")
    text = (
        "/home/me/env/lib/python3.12/site-packages/flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so: undefined symbol: _ZN5flash"
    )
    end = {"event": "end", "name": "a", "status": "raised", "seconds": 0.1, "type": "ImportError", "text": text, "where": ""}
    (check,) = judge(child(begin("a", call="import flash_attn"), end, {"event": "finished"}))
    assert check.code == "undefined-symbol-abi-mismatch"
    assert check.detail == "ImportError: flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so: undefined symbol: _ZN5flash"


def test_every_code_has_its_meaning_and_stands_in_the_documentation(repository: Path) -> None:
    text = (repository / "docs" / "verification.md").read_text()
    codes = {code for code, _ in failures._CLASSES} | set(failures.MEANING)
    assert codes == set(failures.MEANING)
    assert {code for code in codes if f"`{code}`" not in text} == set()
