"""Imports that fail or never return: the message, or the stack and what it waits for, tell why."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace

from provisioner.diagnosing import hangs, messages
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import install, uninstall
from provisioner.diagnosing.checks.requirements import requirements
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
            yield hangs.judge(_described(package, attempt), attempt.seconds, hangs.evidence_of(attempt, inventory.locks))
        elif attempt.outcome == "ok":
            yield from _complained(attempt)
    for lock in inventory.locks:
        if not lock.builders:
            yield _stale(lock)


def _described(package: str, attempt: Attempt) -> str:
    """torch is asked about CUDA once it is imported, and may wait there."""
    return "torch's first look at CUDA" if package == "torch" and "IMPORTED" in attempt.output else f"import of {package}"


def _complained(attempt: Attempt) -> Iterator[Candidate]:
    """What an import printed that went on all the same: xformers, for one, imports without its kernels."""
    for one in messages.match(clean(attempt.output)):
        if one.code in _GOES_ON_WITHOUT:
            yield replace(one, severity=Severity.WARNING, rank=max(one.rank, 87))


_GOES_ON_WITHOUT = ("xformers-torch-mismatch",)


def _failed(inventory: Inventory, package: str, attempt: Attempt) -> Iterator[Candidate]:
    if absent := _absent(inventory, package, attempt):
        yield absent
        return
    if old := _numpy(inventory, attempt):
        yield old
        return
    known = tuple(_repairable(inventory, package, one) for one in messages.match(clean(attempt.output)))
    yield from known
    if any(one.severity is Severity.ERROR for one in known):
        return
    last = next((line for line in reversed(attempt.output.splitlines()) if line.strip()), f"exit code {attempt.code}")
    if _NO_ACCELERATOR in attempt.output and not inventory.gpus:
        fix = Fix("run it where a GPU is; everything else can be checked here", "provision detect")
        yield Candidate("no-gpu-here", 98, Severity.INFO, f"{package} loads only where there is a GPU", (last.strip(),), fix)
        return
    fix = Fix("install it again", install(inventory, "--force-reinstall", "--no-deps", package), Safety.REVERSIBLE)
    crashed = attempt.code is not None and attempt.code < 0
    title = f"import of {package} " + (f"crashes (signal {-attempt.code})" if crashed and attempt.code else "fails")
    yield Candidate("import-fails", 64, Severity.ERROR, title, (last.strip()[:300],), fix)


def _absent(inventory: Inventory, package: str, attempt: Attempt) -> Candidate | None:
    """A dependency that is not installed at all; a package that lacks a part of itself, or of another, is another matter."""
    missing = re.search(r"^ModuleNotFoundError: No module named '(\w+)'", attempt.output, re.MULTILINE)
    if missing is None:
        return None
    name = missing[1].replace("_", "-")
    if name == package or inventory.version(name) or name in _PARTS:
        return None
    provider = _provider(inventory, missing[1])
    fix = (
        Fix(f"install {provider}", install(inventory, provider), Safety.REVERSIBLE)
        if provider
        else Fix(f"install the package that has the module {missing[1]}")
    )
    title = f"{package} needs {missing[1]}, which is not installed"
    return Candidate("missing-dependency", 58, Severity.ERROR, title, (missing[0],), fix)


_OTHER_NAMES = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "sklearn": "scikit-learn",
    "dateutil": "python-dateutil",
}


def _provider(inventory: Inventory, module: str) -> str | None:
    """The package that has a module: one that others here ask for by that name. A guess from an index could be anybody's."""
    name = module.replace("_", "-").lower()
    asked = {one.name for one in requirements(inventory)}
    return _OTHER_NAMES.get(module) or (name if name in asked or name in _STACK else None)


_STACK = (
    "torch",
    "triton",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "einops",
    "unsloth-zoo",
    "xformers",
    "bitsandbytes",
)


_NUMPY = re.compile(
    r"^.*(?:numpy\.dtype size changed|_ARRAY_API not found|numpy\.core\.multiarray failed to import).*$", re.MULTILINE
)
_MODULE = re.compile(r'File "[^"\n]*/site-packages/(\w+)')


def _numpy(inventory: Inventory, attempt: Attempt) -> Candidate | None:
    """An extension compiled for numpy 1 beside numpy 2, or the reverse: the innermost package in the traceback holds it."""
    said, modules = _NUMPY.search(attempt.output), [name for name in _MODULE.findall(attempt.output) if name != "numpy"]
    if said is None or not modules:
        return None
    name, numpy = modules[-1].replace("_", "-"), inventory.version("numpy")
    version = inventory.version(name)
    title = f"{name}{f' {version}' if version else ''} was compiled for another numpy than {numpy}"
    fix = Fix(
        f"install a {name} made for it, or go back to numpy 1",
        install(inventory, "--upgrade", name) if version else None,
        Safety.REVERSIBLE,
        automatic=version is not None,
    )
    return Candidate(
        "numpy-abi-mismatch", 46, Severity.ERROR, title, (said[0].strip(), f"numpy {numpy}"), fix, "numpy 2.0 migration notes"
    )


_PARTS = ("flash-attn-2-cuda", "flash-attn-cuda", "flash-attn-3-cuda")
"""Modules that are no packages of their own: flash-attn's kernels."""


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
