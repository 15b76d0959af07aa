"""The whole report against a driver library compiled here: real processes hold the memory that it states."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provisioner.diagnosing.memory import observed
from provisioner.diagnosing.memory.devices import command_of, environ_of, user_of
from tests.diagnosing.memory.models import LLAMA_31_8B
from tests.diagnosing.memory.test_observed import TORCH, started

pytestmark = [
    pytest.mark.subprocess,
    pytest.mark.skipif(shutil.which("gcc") is None, reason="the driver library is compiled with gcc"),
]

GIB = 2**30
LIBRARY = """
#include <stdlib.h>
#include <string.h>
typedef unsigned long long u64;
struct memory { u64 total, free, used; };
struct memory2 { unsigned version; u64 total, reserved, free, used; };
struct process { unsigned pid; u64 used; unsigned gpu, compute; };
int nvmlInit_v2(void) { return 0; }
int nvmlInitWithFlags(unsigned f) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **h) { *h = (void *)1; return 0; }
int nvmlDeviceGetName(void *h, char *n, unsigned l) { strncpy(n, "NVIDIA H100 80GB HBM3", l); return 0; }
int nvmlDeviceGetMemoryInfo(void *h, struct memory *m) { m->total = 80ULL << 30; m->used = 40ULL << 30; m->free = 40ULL << 30; return 0; }
int nvmlDeviceGetMemoryInfo_v2(void *h, struct memory2 *m)
{ m->total = 80ULL << 30; m->used = 39ULL << 30; m->free = 40ULL << 30; m->reserved = 1ULL << 30; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(void *h, unsigned *n, struct process *p) {
    if (*n < 2) { *n = 2; return 7; }
    *n = 2;
    p[0].pid = atoi(getenv("HOLDER")); p[0].used = 3ULL << 30;
    p[1].pid = 4194303; p[1].used = ~0ULL;
    return 0;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *h, unsigned *n, struct process *p) { *n = 0; return 0; }
const char *nvmlErrorString(int r) { return "error"; }
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    (folder / "nvml.c").write_text(LIBRARY)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libnvidia-ml.so.1", folder / "nvml.c"], check=True)
    return folder


def doctor(driver: Path, holder: int, *words: str, code: int = 0) -> str:
    environ = {**os.environ, "LD_LIBRARY_PATH": str(driver), "HOLDER": str(holder)}
    command = [sys.executable, "-m", "provisioner", "doctor", "--memory", *words]
    result = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    return result.stdout


def test_holders_are_shown_with_user_command_settings_and_torchs_own_counters(driver: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(TORCH)
    code = "import torch, time  # my training run\ntime.sleep(60)"
    with started(tmp_path, code, PYTORCH_CUDA_ALLOC_CONF="expandable_segment:True") as (process, where):
        assert observed.is_observed(process.pid, where)
        document: dict[str, Any] = json.loads(doctor(driver, process.pid, "--json"))
        (device,) = document["memory"]["devices"]
        known, unseen = device["holders"]
        assert (device["total"], device["used"], device["reserved"]) == (80 * GIB, 39 * GIB, GIB)
        assert (known["pid"], known["used"], known["user"]) == (process.pid, 3 * GIB, user_of(os.getpid()))
        assert "my training run" in known["command"]
        assert known["variables"] == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segment:True"}
        assert known["observed"]["torch"]["devices"][0]["reserved"] == 2 * GIB
        assert (unseen["used"], unseen["command"], unseen["user"]) == (None, None, None)
        codes = {finding["code"] for finding in document["findings"]}
        assert codes == {"memory-of-unseen-processes", "allocator-setting-wrong", "memory-fragmented"}
        text = doctor(driver, process.pid)
        assert "1.00 allocated, 2.00 reserved, 1.00 unused" in text
        assert "1.00 context and libraries" in text
        assert "35.00  in no process that can be seen here" in text


def test_a_run_that_cannot_fit_ends_with_exit_1_and_names_its_largest_sink(driver: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(LLAMA_31_8B)
    words = ("--model", str(tmp_path), "--lora-rank", "0", "--optimizer", "adamw_torch", "--batch", "64", "--length", "8192")
    text = doctor(driver, os.getpid(), *words, code=1)
    assert "CAUSE [run-exceeds-memory]" in text
    assert "optimizer states (adamw_torch)" in text


def test_what_may_not_be_read_of_a_process_is_none() -> None:
    assert user_of(4194303) is None
    assert command_of(4194303) is None
    assert environ_of(4194303) is None
    assert (environ_of(os.getpid()) or {}).get("PATH")
