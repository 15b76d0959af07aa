"""Imports as they are watched: hangs are stopped soon, work gets its time, and what follows from one cause is said once."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from provisioner.diagnosing.child import attempts
from provisioner.diagnosing.child.attempts import QUIET_SECONDS, child
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding, Severity
from provisioner.diagnosing.inventory import Inventory, take
from provisioner.machine.facts import Machine
from tests.diagnosing.broken import install, make_venv, make_wheel

pytestmark = pytest.mark.subprocess

WAIT = "import threading\nthreading.Event().wait()\n"


def environment(folder: Path, **modules: str) -> Path:
    """An environment of packages with this code, imported by their own name."""
    python = make_venv(folder / "env", with_pip=False)
    wheels = [make_wheel(folder, name.replace("_", "-"), "1.0", {f"{name}/__init__.py": code}) for name, code in modules.items()]
    install(python, *wheels)
    return python


def examine(python: Path) -> tuple[Inventory, dict[str, Finding]]:
    inventory = take(python)
    return inventory, {finding.code: finding for finding in diagnose(Machine(), inventory)}


def test_a_hang_is_stopped_long_before_the_time_that_work_gets() -> None:
    started = time.monotonic()
    found = child(f"print('so far', flush=True)\n{WAIT}", 300.0)
    assert time.monotonic() - started < 3 * QUIET_SECONDS + 20
    assert found["outcome"] == "hang"
    assert found["idle"] >= QUIET_SECONDS
    assert found["output"].strip() == "so far"
    assert "threading.py" in found["stack"]
    assert found["stack"].split("(most recent call first)")[-1] == found["earlier"].split("(most recent call first)")[-1]


def test_work_is_not_stopped_by_what_stops_a_hang() -> None:
    """Longer than a hang is given, of small steps between pauses, and files read in between."""
    code = f"import time\nend = time.time() + {QUIET_SECONDS + 3}\nwhile time.time() < end:\n    sum(range(2_000_000)); time.sleep(0.5)\n"
    assert child(code, 60.0)["outcome"] == "ok"


def test_where_nothing_tells_work_from_waiting_everything_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "QUIET_SECONDS", 1.0)
    assert child("import time\ntime.sleep(4)\n", 30.0)["outcome"] == "hang"
    monkeypatch.setattr(attempts, "LINUX", False)
    assert child("import time\ntime.sleep(4)\n", 30.0)["outcome"] == "ok"


def test_what_ignores_signals_and_has_not_come_to_python_is_stopped_too() -> None:
    found = child("import signal, time\nsignal.signal(signal.SIGUSR2, signal.SIG_IGN)\ntime.sleep(600)\n", 4.0)
    assert (found["outcome"], found["stack"]) == ("hang", "")


def test_a_crash_is_an_error_with_its_signal() -> None:
    found = child("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", 20.0)
    assert (found["outcome"], found["code"]) == ("error", -11)


def test_one_hang_of_torch_is_one_finding_whatever_imports_it(tmp_path: Path) -> None:
    uses = dict.fromkeys(("bitsandbytes", "unsloth", "flash_attn"), "import torch\n")
    started = time.monotonic()
    inventory, found = examine(environment(tmp_path, torch=WAIT, **uses))
    assert time.monotonic() - started < 60
    assert {name: attempt.outcome for name, attempt in inventory.imports.items() if name != "torch"} == dict.fromkeys(
        ("bitsandbytes", "unsloth", "flash-attn"), "not-tried"
    )
    assert found["import-hangs"].primary
    assert found["import-hangs"].title.startswith("import of torch did not return")


def test_a_torch_that_waits_for_cuda_is_not_said_to_hang_in_its_import(tmp_path: Path) -> None:
    code = f"class cuda:\n    @staticmethod\n    def is_available():\n        {WAIT.strip().replace(chr(10), '; ')}\n"
    found = examine(environment(tmp_path, torch=code))[1]["import-hangs"]
    assert found.title.startswith("torch's first look at CUDA did not return")


def test_a_driver_that_never_answers_does_not_keep_the_rest_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\nexec sleep 1000\n")
    smi.chmod(0o755)
    python = environment(tmp_path, torch="__version__ = '2.13.0'\n")
    monkeypatch.setenv("PATH", f"{smi.parent}:{os.environ['PATH']}")
    started = time.monotonic()
    inventory, _ = examine(python)
    assert time.monotonic() - started < 30
    assert inventory.imports["torch"].outcome == "ok"


def test_a_package_beside_no_torch_at_all_lacks_it_and_nobody_builds_in_isolation(tmp_path: Path) -> None:
    found = examine(environment(tmp_path, bitsandbytes="import torch\n"))[1]
    assert found["missing-dependency"].title == "bitsandbytes needs torch, which is not installed"
    assert "no-torch-build-isolation" not in found


def test_xformers_that_imports_without_its_kernels_is_a_warning(tmp_path: Path) -> None:
    said = "WARNING[XFORMERS]: xFormers can't load C++/CUDA extensions. xFormers was built for:"
    python = environment(tmp_path, torch="__version__ = '2.14.1'\n")
    install(
        python, make_wheel(tmp_path, "xformers", "0.0.35", {"xformers/__init__.py": f"print({said!r})\n", "xformers/ops.py": ""})
    )
    found = examine(python)[1]["xformers-torch-mismatch"]
    assert (found.severity, found.evidence) == (Severity.WARNING, (said,))


def test_an_extension_for_another_numpy_is_named_by_the_innermost_package(tmp_path: Path) -> None:
    error = "raise ValueError('numpy.dtype size changed, may indicate binary incompatibility. Expected 96 from C header, got 88 from PyObject')\n"
    found = examine(environment(tmp_path, numpy="", pandas=error, bitsandbytes="import pandas\n"))[1]["numpy-abi-mismatch"]
    assert found.primary
    assert found.title == "pandas 1.0 was compiled for another numpy than 1.0"
