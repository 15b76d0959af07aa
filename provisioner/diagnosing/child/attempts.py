"""Imports and calls tried in children, each watched: one at work gets its time, one that waits for nothing is stopped soon."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from provisioner.diagnosing.child.waits import cpu_of, descendants, read, waiting

IMPORT_SECONDS = float(os.environ.get("UNSLOTH_DIAGNOSE_SECONDS", "40"))
"""How long the imports, made side by side, may take that are at work; a judgement."""

QUIET_SECONDS = 8.0
"""How long one may do nothing (no CPU time, nothing read) before it counts as hung: longer than the pings and connects of imports."""

EARLIER_SECONDS = 3.0
"""How long before its end a child is asked for its stack a first time."""

LINUX = os.path.isdir("/proc/self")
"""Elsewhere nothing tells work from waiting: each child then has its whole time."""

LOOK_SECONDS = 1.0
"""Between two looks at a child."""

BUSY = 0.05
"""Cores of CPU time from which a child is at work, however crowded the machine."""

READ_BYTES = 1 << 16
"""Bytes read between two looks from which a child is at work: an import from a slow disk, by calls or as mapped pages."""

IMPORTS = (
    # distribution, statement; the longest first
    ("unsloth", "import unsloth"),
    ("bitsandbytes", "import bitsandbytes"),
    ("xformers", "import torch, xformers.ops"),
    ("flash-attn", "import torch, flash_attn, flash_attn.flash_attn_interface"),
    ("triton", "import triton, triton.language"),
)
"""What is tried beside torch itself; all but triton import torch."""

AT_ONCE = 4
"""Children at work at the same time."""

TORCH = """
import json, os, re, torch
print("IMPORTED", flush=True)
facts = {"version": getattr(torch, "__version__", None), "available": False, "archs": [], "devices": []}
def add(name, value):
    try:
        facts[name] = value()
    except Exception as error:
        facts.setdefault("errors", {})[name] = str(error)[:300]
add("cuda", lambda: torch.version.cuda)
add("hip", lambda: getattr(torch.version, "hip", None))
add("cxx11_abi", lambda: bool(torch._C._GLIBCXX_USE_CXX11_ABI))
add("available", torch.cuda.is_available) if hasattr(torch, "cuda") else None
def devices():
    found = []
    for index in range(torch.cuda.device_count()):
        one = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found.append({"name": one.name, "compute_capability": "%d.%d" % (one.major, one.minor), "memory_mib": one.total_memory >> 20, "free_mib": free >> 20, "total_mib": total >> 20})
    return found
def allocator():
    torch.empty(1, device="cuda")
    return torch.cuda.memory._snapshot().get("allocator_settings")
def libraries():
    loaded = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count(" ") >= 5 and ".so" in line}
    return sorted(path for path in loaded if re.search(r"/lib(cudart|cudnn|cublas|cublasLt|nccl|nvrtc|nvJitLink|cusparse|cuda)[.-][^/]*$", path))
if facts["available"]:
    add("archs", torch.cuda.get_arch_list)
    add("devices", devices)
    add("allocator", allocator)
if os.path.exists("/proc/self/maps"):
    add("libraries", libraries)
print("FACTS=" + json.dumps(facts))
"""

ATTENTION = """
import torch
from flash_attn import flash_attn_func
q = torch.randn(1, 64, 2, 64, device="cuda", dtype=torch.float16)
out = flash_attn_func(q, q, q, causal=True)
torch.cuda.synchronize()
reference = torch.nn.functional.scaled_dot_product_attention(*(q.transpose(1, 2).double(),) * 3, is_causal=True).transpose(1, 2)
print("FACTS=%.3g" % (out.double() - reference).abs().max().item())
"""


def attempts(installed: set[str], has_gpu: Callable[[], bool]) -> dict[str, Any]:
    """Return what became of the import of each package that is installed, and of a call of flash-attn where there is a GPU."""
    tasks = [("torch", TORCH)] if "torch" in installed else []
    tasks += [task for task in IMPORTS if task[0] in installed]
    results: dict[str, Any] = {}
    slots, end_of_time = threading.Semaphore(AT_ONCE), time.time() + IMPORT_SECONDS

    def work(name: str, code: str) -> None:
        with slots:
            left = max(QUIET_SECONDS, end_of_time - time.time())
            results[name] = NOT_TRIED if hung(results, "torch") else child(code, left)

    def call() -> None:
        if has_gpu():
            work(" attention", ATTENTION)

    threads = [threading.Thread(target=work, args=task, daemon=True) for task in tasks]
    if "flash-attn" in installed:
        threads.append(threading.Thread(target=call, daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if hung(results, "torch"):
        results.update((name, NOT_TRIED) for name in results if name not in ("torch", "triton") and hung(results, name))
    return results


NOT_TRIED = {"outcome": "not-tried", "seconds": 0.0, "output": "torch does not return, and with it all that imports torch"}


def hung(results: dict[str, Any], name: str) -> bool:
    """Say whether an attempt has been stopped."""
    return name in results and results[name]["outcome"] == "hang"


def child(code: str, seconds: float) -> dict[str, Any]:
    """Run ``code`` in a fresh interpreter, watched; one that does not return leaves two Python stacks, its CPU time, and what the kernel says."""
    folder = scratch()
    stacks = os.path.join(folder, "stacks") if folder else os.devnull
    started = time.time()
    environ = dict(os.environ, PYTHONFAULTHANDLER="1", UNSLOTH_DISABLE_STATISTICS="1", PYTHONDONTWRITEBYTECODE="1")
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", ANSWERING % (SIGNAL, stacks) + code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, env=environ, cwd=folder or os.path.abspath(os.sep), start_new_session=os.name == "posix",
        )  # fmt: skip
        text, cpu, idle, earlier = watched(process, seconds, stacks)
        if text is not None:
            result = {"outcome": "ok" if process.returncode == 0 else "error", "code": process.returncode, "output": text[-6000:]}
        else:
            waits = dict(waiting(process.pid, native=cpu < BUSY), cpu=round(cpu, 2))
            stack = python_stack(process.pid, stacks)
            printed = end(process)[-2000:]
            result = {"outcome": "hang", "code": None, "output": printed, "waits": waits, "stack": stack}
            result.update(earlier=earlier, idle=idle)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["seconds"] = round(time.time() - started, 1)
    return result


SIGNAL = int(getattr(signal, "SIGUSR2", 0))
ANSWERING = """import faulthandler as _f
if hasattr(_f, "register"): _f.register(%d, file=open(%r, "w"))
"""
"""Only a child that is about to be stopped is asked: faulthandler's own timer reads frames while they run, and has crashed imports."""


def python_stack(pid: int, stacks: str) -> str:
    """Return the Python stacks of a child's threads, written by itself on a signal; empty where it has not got as far as to answer."""
    caught = re.search(r"^SigCgt:\s+(\w+)", read("/proc/%d/status" % pid), re.MULTILINE)
    if not caught or not int(caught.group(1), 16) >> (SIGNAL - 1) & 1:
        return ""
    before = len(read(stacks, STACKS))
    os.kill(pid, SIGNAL)
    text, deadline = "", time.time() + 1.0
    while time.time() < deadline:
        time.sleep(0.1)
        seen = read(stacks, STACKS)[before:]
        if seen and seen == text:
            break
        text = seen
    return text[-6000:]


STACKS = 1 << 20


def scratch() -> str:
    """Return a folder for what a child writes, empty where no file system takes one: that is for another check to say."""
    try:
        return tempfile.mkdtemp(prefix="diagnose-")
    except OSError:
        return ""


def watched(process: subprocess.Popen[bytes], seconds: float, stacks: str) -> tuple[str | None, float, float, str]:
    """Return the output of a child that ends; of one that does not: None, cores kept busy, seconds idle, and its stack some seconds before.

    It may take ``seconds`` as long as it computes or reads; after `QUIET_SECONDS` of neither it is not waited for.
    """
    started = worked = time.time()
    samples, earlier = [(started, 0.0, 0)], ""
    while True:
        text = output_within(process, LOOK_SECONDS)
        if text is not None:
            return text, 0.0, 0.0, ""
        tree = [process.pid, *descendants(process.pid)]
        now, cpu, done = time.time(), cpu_of(tree), bytes_read(process.pid)
        before, cpu_before, done_before = samples[-1]
        works = (cpu - cpu_before) / (now - before) >= BUSY or done - done_before >= READ_BYTES or is_at_work(tree)
        if works or not LINUX:
            worked = now
        samples = [*samples[-2:], (now, cpu, done)]
        left = min(worked + QUIET_SECONDS, started + seconds) - now
        if left <= 0:
            text = output_within(process, LOOK_SECONDS)  # it may have ended in this very moment
            return text, (cpu - samples[0][1]) / (now - samples[0][0]), round(now - worked, 1), earlier
        if left > EARLIER_SECONDS:
            earlier = ""
        elif not earlier:
            earlier = python_stack(process.pid, stacks)


def is_at_work(tree: list[int]) -> bool:
    """Say whether one of these processes wants to run, or waits for a page from a disk: on a crowded machine that is work too."""
    states = [(one, read("/proc/%d/stat" % one).rsplit(")", 1)[-1].split()[:1]) for one in tree]
    return any(state == ["R"] or (state == ["D"] and FROM_DISK.search(read("/proc/%d/wchan" % one))) for one, state in states)


FROM_DISK = re.compile(r"folio_wait|io_schedule|page_bit|bio_wait")
"""Where the kernel waits for local storage; network file systems have names of their own (nfs, rpc, fuse)."""


def bytes_read(pid: int) -> int:
    """Return how much a child has read so far: by calls, from disks, and as pages of libraries that were mapped."""
    counted = re.findall(r"^(?:rchar|read_bytes): (\d+)", read("/proc/%d/io" % pid), re.MULTILINE)
    after = read("/proc/%d/stat" % pid).rsplit(")", 1)[-1].split()
    faults = int(after[7]) + int(after[9]) if len(after) > 9 else 0
    return sum(map(int, counted)) + 4096 * faults


def output_within(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Return a child's output if it ends within ``seconds``, else None."""
    try:
        return process.communicate(timeout=seconds)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return None


def end(process: subprocess.Popen[bytes]) -> str:
    """Stop a child and everything that it started; return what it had printed."""
    try:
        os.killpg(process.pid, 9)
    except (OSError, AttributeError):
        process.kill()
    return process.communicate()[0].decode("utf-8", "replace")
