"""Imports that fail or never return: the message, or the stack and what it waits for, tell why."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provisioner.diagnosing import catalogue
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import install, uninstall
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Attempt, Inventory, Lock
from provisioner.machine.report.cleaning import clean


@dataclass(frozen=True, slots=True)
class Wait:
    """A reason to wait: the frames that show it, what it is, and what ends it."""

    frames: str
    what: str
    remedy: str
    command: str | None = None


WAITS = (
    Wait(r"file_baton\.py|_filelock\.py", "another build's lock file", "delete the lock of a build that has died"),
    Wait(r"torch/_inductor/(?:async_compile|compile_worker|runtime/compile)", "Inductor's compile workers", "one worker", "export UNSLOTH_FORCE_SINGLE_COMPILE_WORKER=1"),
    Wait(r"huggingface_hub/|hf_xet|http/client\.py|urllib/request\.py|socket\.py|ssl\.py", "a download or a server that does not answer", "work offline", "export HF_HUB_OFFLINE=1 UNSLOTH_DISABLE_STATISTICS=1"),
    Wait(r"distributed/rendezvous\.py|distributed_c10d\.py", "other ranks of a process group", "look for a missing rank, port or firewall", "export NCCL_DEBUG=INFO"),
    Wait(r"triton/runtime/build\.py|triton/backends/nvidia/compiler\.py|subprocess\.py", "a compiler or another program", "see the child process below"),
    Wait(r"torch/cuda/__init__\.py|cuInit|nvidia", "the NVIDIA driver", "see whether nvidia-smi answers, and the kernel log for Xid lines", "nvidia-smi"),
    Wait(r"filelock/|utils/_fixes\.py", "a file lock that another process holds", "end the process that holds it, or delete the lock if nobody does"),
    Wait(r"multiprocessing/", "a worker process", "use one process", "export UNSLOTH_DATASET_NUM_PROC=0"),
)  # fmt: skip
"""Stacks and what they mean: file names as in torch 2.13, triton 3.9, huggingface_hub 2.4 and unsloth 2026.10.9 (2026-11-24); the rest is judgement."""

_UNLOADABLE = ("undefined-symbol-abi-mismatch", "libcudart-missing", "glibc-too-old", "flash-attn-no-kernels")


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield a finding per import that failed or did not return, and per build lock that nobody holds."""
    for package, attempt in inventory.imports.items():
        if attempt.outcome == "error":
            yield from _failed(inventory, package, attempt)
        elif attempt.outcome == "hang":
            yield _hung(package, attempt, inventory.locks)
    for lock in inventory.locks:
        if not lock.builders:
            yield _stale(lock)


def _failed(inventory: Inventory, package: str, attempt: Attempt) -> Iterator[Candidate]:
    known = tuple(_repairable(inventory, package, one) for one in catalogue.match(clean(attempt.output)))
    yield from known
    if any(one.severity is Severity.ERROR for one in known):
        return
    last = next((line for line in reversed(attempt.output.splitlines()) if line.strip()), f"exit code {attempt.code}")
    if missing := re.search(r"No module named '([\w.]+)'", attempt.output):
        name = missing[1].split(".")[0]
        title = f"{package} needs {name}, which is not installed"
        command = install(inventory, name.replace("_", "-"))
        yield Candidate(
            "missing-dependency", 58, Severity.ERROR, title, (last.strip(),), Fix(f"install {name}", command, Safety.REVERSIBLE)
        )
        return
    fix = Fix(
        "reinstall it without the cache",
        install(inventory, "--force-reinstall", "--no-deps", package),
        Safety.REVERSIBLE,
    )
    crashed = attempt.code is not None and attempt.code < 0
    title = f"import of {package} " + (f"crashes (signal {-attempt.code})" if crashed and attempt.code else "fails")
    yield Candidate("import-fails", 64, Severity.ERROR, title, (last.strip()[:300],), fix)


def _repairable(inventory: Inventory, package: str, one: Candidate) -> Candidate:
    """flash-attn is optional: one that does not load can be taken away, and Unsloth goes on with xformers or SDPA."""
    if package != "flash-attn" or one.code not in _UNLOADABLE:
        return one
    command = uninstall(inventory, "flash-attn")
    text = "remove this flash-attn (Unsloth goes on with xformers or SDPA), then install the one that `provision plan` names"
    return replace(one, fix=Fix(text, command, Safety.REVERSIBLE, automatic=True))


def _hung(package: str, attempt: Attempt, locks: tuple[Lock, ...]) -> Candidate:
    frames = [line.strip() for line in attempt.stack.splitlines() if line.strip().startswith("File ")]
    deepest = [frame for frame in frames if "<frozen importlib" not in frame][:1]
    seen = "\n".join([*frames[:8], *attempt.waits.files, *attempt.waits.native[:8]])
    wait = next((one for one in WAITS if re.search(one.frames, seen)), None)
    evidence = [*deepest, *frames[:3]]
    evidence += [f"kernel: {attempt.waits.kernel}"] if attempt.waits.kernel not in (None, "0") else []
    evidence += (
        [f"open: {file}" for file in attempt.waits.files[:3]]
        + [f"child: {child}" for child in attempt.waits.children[:3]]
        + list(attempt.waits.native[:3])
    )
    title = f"import of {package} did not return in {attempt.seconds:.0f} s" + (f": it waits for {wait.what}" if wait else "")
    fix = (
        Fix(wait.remedy, wait.command, Safety.REVERSIBLE)
        if wait
        else Fix("look at the frames above: the first one is the line that does not return")
    )
    return Candidate("import-hangs", 43, Severity.ERROR, title, tuple(dict.fromkeys(evidence)) or ("no Python frame",), fix)


def _stale(lock: Lock) -> Candidate:
    title = "a build that died has left its lock: the next build of this extension waits for ever"
    fix = Fix("delete the lock", shlex.join(["rm", lock.path]), Safety.REVERSIBLE, automatic=True)
    evidence = (f"{lock.path}, {lock.age_seconds} s old, no process builds there",)
    return Candidate("stale-build-lock", 42, Severity.ERROR, title, evidence, fix, "torch/utils/file_baton.py")
