"""Imports that fail or never return: the message, or the stack and what it waits for, tell why."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from provisioner.diagnosing import hangs, messages
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import install, uninstall
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Attempt, Inventory, Lock
from provisioner.machine.report.cleaning import clean

_NO_ACCELERATOR = "cannot find any torch accelerator"
"""What `import unsloth` says on a machine without a GPU (unsloth 2026.10.9); no fault of an environment made for another one."""

_UNLOADABLE = ("undefined-symbol-abi-mismatch", "libcudart-missing", "glibc-too-old", "flash-attn-no-kernels")


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield a finding per import that failed or did not return, and per build lock that nobody holds."""
    for package, attempt in inventory.imports.items():
        if attempt.outcome == "error":
            yield from _failed(inventory, package, attempt)
        elif attempt.outcome == "hang":
            yield hangs.judge(f"import of {package}", attempt.seconds, hangs.evidence_of(attempt, inventory.locks))
    for lock in inventory.locks:
        if not lock.builders:
            yield _stale(lock)


def _failed(inventory: Inventory, package: str, attempt: Attempt) -> Iterator[Candidate]:
    known = tuple(_repairable(inventory, package, one) for one in messages.match(clean(attempt.output)))
    yield from known
    if any(one.severity is Severity.ERROR for one in known):
        return
    last = next((line for line in reversed(attempt.output.splitlines()) if line.strip()), f"exit code {attempt.code}")
    if _NO_ACCELERATOR in attempt.output and not inventory.gpus:
        fix = Fix("run it where a GPU is; everything else can be checked here", "provision detect")
        yield Candidate("no-gpu-here", 98, Severity.INFO, f"{package} loads only where there is a GPU", (last.strip(),), fix)
        return
    missing = re.search(r"No module named '([\w.]+)'", attempt.output)
    name = missing[1].split(".")[0] if missing else package
    if name.replace("_", "-") != package:  # a package that lacks a part of itself is incomplete, not without a dependency
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
    text = "install the flash-attn that fits this torch (`provision install` does it); where none does, remove it: Unsloth goes on without"
    return replace(one, fix=Fix(text, command, Safety.REVERSIBLE, automatic=True, repair=Repair.FLASH_ATTN))


def _stale(lock: Lock) -> Candidate:
    title = "a build that died has left its lock: the next build of this extension waits for ever"
    fix = Fix("delete the lock", shlex.join(["rm", lock.path]), Safety.REVERSIBLE, automatic=True)
    evidence = (f"{lock.path}, {lock.age_seconds} s old, no process builds there",)
    return Candidate("stale-build-lock", 42, Severity.ERROR, title, evidence, fix, "torch/utils/file_baton.py")
