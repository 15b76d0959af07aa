"""However a module's import ends or misbehaves, the child's report says so, in time, and nothing of it stays behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.codec import from_json, to_json
from provisioner.verifying.child_process import ChildRun, Job, run_child
from provisioner.verifying.expectation import Expectation
from provisioner.verifying.judging import judge
from provisioner.verifying.receipt import Check, Outcome, Receipt
from provisioner.verifying.verify import verify

pytestmark = pytest.mark.integration

Ending = Callable[..., tuple[ChildRun, Check]]


@pytest.fixture
def importing(tmp_path: Path) -> Ending:
    """Return what imports a ``flash_attn`` of the given source in a child without torch, and the check of it."""

    def run(source: str, *, check_seconds: float = 20.0, timeout: float = 30.0) -> tuple[ChildRun, Check]:
        (tmp_path / "flash_attn").mkdir()
        (tmp_path / "flash_attn" / "__init__.py").write_text("import ctypes, os, signal, sys, time\n" + source)
        job = Job("imports", "quick", "cpu", Expectation(imports=()), check_seconds, paths=(str(tmp_path),))
        done = run_child(Path(sys.executable), job, timeout=timeout)
        (check,) = (check for check in judge(done) if check.name == "import flash_attn")
        return done, check

    return run


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("time.sleep(60)", id="asleep"),
        pytest.param("ctypes.PyDLL(None).pause()", id="in-c-with-the-interpreter-held"),
        pytest.param("signal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", id="busy-and-deaf"),
    ],
)
def test_a_hang_is_reported_within_its_limit_with_its_line(importing: Ending, source: str) -> None:
    done, check = importing(source, check_seconds=1.0)
    assert check.code == "hang"
    assert f"flash_attn/__init__.py:{len(source.splitlines()) + 1} in <module>" in check.detail
    assert done.result.seconds < 5


def test_the_limit_of_the_whole_child_ends_one_that_ignores_sigterm(importing: Ending) -> None:
    source = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\nwhile True: time.sleep(1)"
    done, check = importing(source, timeout=1.5)
    assert (check.code, done.result.timed_out) == ("hang", True)
    assert done.result.seconds < 10


@pytest.mark.parametrize("end", ["time.sleep(60)", "pass", "os._exit(1)"])
def test_processes_that_a_check_left_running_are_ended_with_it(importing: Ending, tmp_path: Path, end: str) -> None:
    pids = tmp_path / "pids"
    source = f"child = os.fork()\nif not child: time.sleep(60); os._exit(0)\nopen({str(pids)!r}, 'w').write(str(child))\n{end}"
    importing(source, check_seconds=1.5)
    deadline = time.monotonic() + 5
    while _lives(int(pids.read_text())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(int(pids.read_text()))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGABRT)", "ended by SIGABRT"),
        ("ctypes.string_at(0)", "ended by SIGSEGV"),
        ("os._exit(0)", "ended with exit code 0"),
        ("sys.exit(3)", "ended with exit code 3"),
    ],
)
def test_an_import_that_takes_the_process_down_is_a_failed_check_that_says_how(importing: Ending, source: str, said: str) -> None:
    _, check = importing(source)
    assert check.outcome is Outcome.FAILED
    assert said in check.detail
    assert check.code == "crashed"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param('print(\'{"event": "finished"}\')', id="json"),
        pytest.param("sys.stdout.buffer.write(bytes(range(256)))\nsys.stderr.buffer.write(bytes(range(256)))", id="no-utf-8"),
        pytest.param("os.write(2, b'x' * 30_000_000)\nos.write(1, b'x' * 30_000_000)", id="much"),
        pytest.param("sys.stdout = sys.stderr = None", id="no-streams"),
        pytest.param("os.close(1); os.close(2)", id="closed-descriptors"),
        pytest.param("os.chdir('/')\nsys.path.clear()", id="elsewhere"),
    ],
)
def test_what_a_module_prints_or_closes_changes_nothing(importing: Ending, source: str) -> None:
    done, check = importing(source)
    assert check.outcome is Outcome.PASSED, check
    assert done.finished


def test_what_a_crashed_module_printed_is_judged_by_its_ends(importing: Ending) -> None:
    started = time.process_time()
    done, check = importing(
        "for _ in range(200): os.write(1, b'noise\\n' * 100_000)\nos.write(1, b'undefined symbol: x')\nos.abort()"
    )
    assert (check.code, len(done.said) < 200_000) == ("undefined-symbol-abi-mismatch", True)
    assert time.process_time() - started < 5


def test_a_thread_that_a_module_leaves_running_costs_nothing(importing: Ending) -> None:
    done, check = importing("import threading\nthreading.Thread(target=time.sleep, args=(60,)).start()")
    assert check.outcome is Outcome.PASSED
    assert done.result.seconds < 15


def test_printing_without_end_fills_no_disk(importing: Ending) -> None:
    _, check = importing("while True: os.write(1, b'x' * 1_000_000)", check_seconds=60.0)
    assert (check.outcome, check.code) == (Outcome.FAILED, "import-failed")
    assert "File too large" in check.detail


def test_an_error_in_any_bytes_is_kept_in_a_receipt(importing: Ending) -> None:
    _, check = importing("raise ImportError(os.fsdecode(b'lib\\xff\\xfe.so: cannot open shared object file'))")
    receipt = Receipt("2026-11-27T00:00:00+00:00", "quick", checks=(check,))
    assert from_json(to_json(receipt), Receipt) == receipt


def test_nobodys_home_stands_in_a_detail(importing: Ending) -> None:
    home = Path("/") / "home" / "somebody"
    _, check = importing(f"raise ImportError('{home}/env/lib/python3.12/site-packages/x.so and {home}/src/y.so: broken')")
    assert "somebody" not in check.detail
    assert "x.so and ~/src/y.so: broken" in check.detail


@pytest.mark.parametrize(
    ("source", "code"),
    [("raise OSError('libtorch_cpu.so: file too short')", "torch-import-broken"), ("import time; time.sleep(60)", "hang")],
)
def test_what_fails_because_torch_does_is_not_blamed(tmp_path: Path, source: str, code: str) -> None:
    for module, text in {"torch": source, "flash_attn": "import torch", "triton": "import torch"}.items():
        (tmp_path / module).mkdir()
        (tmp_path / module / "__init__.py").write_text(text)
    receipt = verify(Path(sys.executable), extra_paths=[tmp_path], timeout=3.0)
    outcomes = {check.name: check.outcome for check in receipt.checks}
    assert [(check.name, check.code) for check in receipt.checks if check.code] == [("import torch", code)]
    assert outcomes["import flash_attn"] is outcomes["import triton"] is outcomes["kernels on the GPU"] is Outcome.SKIPPED
    assert receipt.seconds < 15
