"""The real program against fake drivers: an nvidia-smi script on the PATH, a libnvidia-ml compiled here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from provisioner.machine.facts import Machine
from provisioner.machine.nvml import LIBRARY_NOT_FOUND, NvmlReading
from provisioner.machine.probe import probe_system
from provisioner.machine.system import LiveSystem

pytestmark = pytest.mark.subprocess

needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="the fake library is compiled with gcc")


class WithoutNvml(LiveSystem):
    """This host with another PATH, as if NVML were not installed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.environ = {**os.environ, "PATH": f"{path}:/usr/bin:/bin"}

    def nvml(self) -> NvmlReading:
        return NvmlReading(error=LIBRARY_NOT_FOUND)


def fake_smi(directory: Path, script: str) -> Machine:
    program = directory / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)
    return probe_system(WithoutNvml(directory))


def test_an_nvidia_smi_that_sleeps_is_stopped_and_told(tmp_path: Path) -> None:
    started = time.monotonic()
    machine = fake_smi(tmp_path, "sleep 300\n")
    assert time.monotonic() - started < 10
    assert "nvidia-smi-hangs" in [fault.code for fault in machine.faults]


@pytest.mark.slow
def test_an_nvidia_smi_that_ignores_being_stopped_is_left_within_ten_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    machine = fake_smi(tmp_path, "trap '' TERM INT HUP\nwhile :; do sleep 1; done\n")
    assert time.monotonic() - started < 11
    assert {"nvidia-smi-hangs", "probe-hangs"} & {fault.code for fault in machine.faults}


@pytest.mark.parametrize(
    "script",
    [
        "head -c 20000 /dev/urandom\n",
        "yes '550.54.15, 24564, 8.9' | head -c 10000000\n",
        "yes '| 0 0 0 0 | 1MiB / 2MiB |' | head -c 10000000\n",
        "printf '\\377\\376\\000'; exit 3\n",
        "kill -9 $$\n",
        "exit 0\n",
    ],
    ids=["garbage", "10 MB of half rows", "10 MB of MIG rows", "not text", "killed", "silent"],
)
def test_an_nvidia_smi_that_prints_anything_else_gives_no_gpu(tmp_path: Path, script: str) -> None:
    machine = fake_smi(tmp_path, script)
    assert [gpu for gpu in machine.gpus if gpu.source == "nvidia-smi"] == []
    assert "probe-failed" not in [fault.code for fault in machine.faults]


def test_ten_megabytes_after_a_good_answer_do_not_hide_it(tmp_path: Path) -> None:
    machine = fake_smi(tmp_path, "echo '550.54.15, 24564, 8.9, [N/A], NVIDIA GeForce RTX 4090'\nyes noise | head -c 10000000\n")
    assert [(gpu.name, gpu.compute_capability) for gpu in machine.gpus] == [("NVIDIA GeForce RTX 4090", "8.9")]


PRELUDE = """
#include <string.h>
#include <unistd.h>
typedef struct { unsigned long long total, free, used; } memory_t;
const char *nvmlErrorString(int code) { return code == 18 ? "Driver/library version mismatch" : "error"; }
int nvmlShutdown(void) { return 0; }
"""

RUNNING = (
    PRELUDE
    + """
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { strncpy(text, "570.124.06", size); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return 0; }
"""
)

TWO_GPUS_ONE_IN_SLICES = (
    RUNNING
    + """
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return index == 2 ? 15 : 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned size) {
    const char *names[] = {"NVIDIA GeForce RTX 5090", "NVIDIA H200", "NVIDIA H200 MIG 1g.18gb"};
    strncpy(name, names[(long)handle > 2 ? 2 : (long)handle - 1], size); return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    memory->total = ((long)handle > 2 ? 16384ULL : (long)handle == 2 ? 143771ULL : 32607ULL) << 20; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    if ((long)handle > 2) return 3;
    *major = (long)handle == 1 ? 12 : 9; *minor = 0; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) { *now = *next = (long)handle == 2; return (long)handle == 1 ? 3 : 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { *count = 7; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **slice) { *slice = (void *)(long)(index + 10); return index < 2 ? 0 : 6; }
"""
)
# nvmlDeviceGetVirtualizationMode is missing on purpose: the bindings are newer than this driver.

LYING = (
    PRELUDE
    + """
int nvmlInitWithFlags(unsigned flags) { return 0; }
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { memset(text, 0xfe, size); text[size - 1] = 0; return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = -1; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 4000000000u; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)1; return index ? 2 : 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned size) { memset(name, 'A', size); return 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) { memory->total = ~0ULL; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) { *major = -7; *minor = 2147483647; return 0; }
"""
)

HANGING = (
    PRELUDE + "int nvmlInitWithFlags(unsigned flags) { for (;;) sleep(60); }\nint nvmlInit_v2(void) { for (;;) sleep(60); }\n"
)
MISMATCH = PRELUDE + "int nvmlInitWithFlags(unsigned flags) { return 18; }\nint nvmlInit_v2(void) { return 18; }\n"


def compile_library(directory: Path, source: str) -> None:
    """Make ``source`` the NVML library in ``directory``."""
    (directory / "fake.c").write_text(source)
    options = ["-shared", "-fPIC", "-w", "-Wl,-soname,libnvidia-ml.so.1"]
    subprocess.run(["gcc", *options, "-o", str(directory / "libnvidia-ml.so.1"), str(directory / "fake.c")], check=True)


def detect_with(directory: Path, source: str | bytes) -> tuple[dict[str, Any], float]:
    """Return what `provision detect --json` says, and its seconds, where libnvidia-ml.so.1 is made of ``source``."""
    library = directory / "libnvidia-ml.so.1"
    if isinstance(source, bytes):
        library.write_bytes(source)
    else:
        compile_library(directory, source)
    smi = directory / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\ntouch {directory}/started\n")
    smi.chmod(0o755)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(directory), "PATH": f"{directory}:/usr/bin:/bin"}
    started = time.monotonic()
    command = [sys.executable, "-m", "provisioner", "detect", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    machine: dict[str, Any] = json.loads(done.stdout)["machine"]
    return machine, time.monotonic() - started


ONE_GPU = (
    RUNNING
    + """
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)0x7ffff0000010; return 0; }
int nvmlDeviceGetName(void *handle, char *name, unsigned size) { strncpy(name, "NVIDIA H100 80GB HBM3", size); return handle != (void *)0x7ffff0000010; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) { memory->total = 85520809984ULL; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) { *now = *next = 0; return 0; }
int nvmlDeviceGetVirtualizationMode(void *handle, int *mode) { *mode = 1; return 0; }
"""
)

BOTH_WAYS = """
import json
from provisioner.machine import nvml
from provisioner.machine.nvml_plain import read_plainly
plain = read_plainly(nvml._load())
print(json.dumps([plain is not None, plain == nvml._read_through_bindings()]))
"""


def read_both_ways(library: Path | None) -> list[bool]:
    """Return whether NVML could be read plainly, and whether that is what the bindings read."""
    environment = {**os.environ, "LD_LIBRARY_PATH": str(library)} if library else None
    done = subprocess.run([sys.executable, "-c", BOTH_WAYS], env=environment, capture_output=True, text=True, check=True)
    answers: list[bool] = json.loads(done.stdout)
    return answers


@needs_compiler
@pytest.mark.parametrize(("source", "is_plain"), [(ONE_GPU, True), (TWO_GPUS_ONE_IN_SLICES, False), (MISMATCH, False)])
def test_nvml_read_plainly_says_what_the_bindings_say_or_leaves_it_to_them(tmp_path: Path, source: str, is_plain: bool) -> None:
    compile_library(tmp_path, source)
    assert read_both_ways(tmp_path) == [is_plain, is_plain]


@pytest.mark.gpu
def test_this_gpu_read_plainly_is_what_the_bindings_read() -> None:
    is_plain, is_equal = read_both_ways(None)
    assert is_equal or not is_plain


@needs_compiler
def test_nvml_gives_every_gpu_and_slice_whatever_it_lacks_and_no_program_is_started(tmp_path: Path) -> None:
    machine, _ = detect_with(tmp_path, TWO_GPUS_ONE_IN_SLICES)
    assert machine["driver"] == {"version": "570.124.06", "cuda": "12.8"}
    assert [(gpu["name"], gpu["compute_capability"], gpu["memory_mib"], gpu["partition"]) for gpu in machine["gpus"]] == [
        ("NVIDIA GeForce RTX 5090", "12.0", 32607, None),
        ("NVIDIA H200 MIG 1g.18gb", "9.0", 16384, "mig"),
        ("NVIDIA H200 MIG 1g.18gb", "9.0", 16384, "mig"),
    ]
    assert [fault["code"] for fault in machine["faults"]] == ["gpu-lost"]
    assert not (tmp_path / "started").exists()


@needs_compiler
def test_an_nvml_that_lies_puts_no_nonsense_into_the_facts(tmp_path: Path) -> None:
    machine, _ = detect_with(tmp_path, LYING)
    assert machine["driver"] == {"version": None, "cuda": None}
    for gpu in machine["gpus"]:
        assert gpu["compute_capability"] is None
        assert gpu["memory_mib"] is None
    assert "probe-failed" not in [fault["code"] for fault in machine["faults"]]


@needs_compiler
def test_an_nvml_that_hangs_is_left_behind_and_nvidia_smi_is_asked(tmp_path: Path) -> None:
    machine, seconds = detect_with(tmp_path, HANGING)
    assert seconds < 15
    assert "probe-hangs" in [fault["code"] for fault in machine["faults"]]
    assert (tmp_path / "started").exists()


@needs_compiler
def test_a_library_newer_than_the_loaded_driver_is_a_fault(tmp_path: Path) -> None:
    machine, _ = detect_with(tmp_path, MISMATCH)
    assert "driver-lib-mismatch" in [fault["code"] for fault in machine["faults"]]


@needs_compiler
def test_a_library_without_any_function_and_a_file_that_is_none_are_passed_over(tmp_path: Path) -> None:
    for source, codes in (
        ("int nothing;\n", {"nvml-unusable"}),
        (b"this is not a library", set()),
        (b"\x7fELF" + bytes(60), set()),
    ):
        machine, _ = detect_with(tmp_path, source)
        assert machine["gpus"] == [] or machine["gpus"][0]["source"] != "nvml"
        found = {fault["code"] for fault in machine["faults"]}
        assert "probe-failed" not in found
        assert found & {"nvml-unusable"} == codes
