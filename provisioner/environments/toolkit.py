"""Which CUDA compiler builds flash-attn: one on the machine, or the package index's, by the lock."""

from __future__ import annotations

import hashlib
from pathlib import Path

from provisioner import paths, process, progress
from provisioner.building import toolchain
from provisioner.environments import venv_backend
from provisioner.errors import BuildFailed
from provisioner.exclusive import exclusive
from provisioner.indexes import IndexSettings
from provisioner.locking.values import TOOLCHAIN, Lock
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan

FROM_INDEX = "index"
"""The word for ``--cuda-toolkit`` that asks for the package index's compiler although the machine has one."""


def toolkit_on_machine(plan: Plan, machine: Machine, wanted: str | None = None) -> Path | None:
    """Return the root of the toolkit to build with, None when it must come from the package index.

    ``wanted`` is a root, `FROM_INDEX` or None to choose: of the same CUDA major as torch (torch refuses another), the plan's
    own minor first, then the newest. Raise `BuildFailed` when the index has none either (CUDA 12's wheels hold no nvcc).
    """
    if not plan.compiles or plan.cuda is None:
        return None
    if wanted and wanted != FROM_INDEX:
        return Path(wanted)
    major = plan.cuda.split(".")[0]
    fitting = [kit for kit in machine.toolkits if kit.version.split(".")[0] == major]
    if fitting and wanted is None:
        preferred = plan.toolkit or plan.cuda
        best = max(fitting, key=lambda kit: (kit.version.startswith(preferred), _numbers(kit.version)))
        return Path(best.root)
    toolchain.requirements(plan.toolkit or plan.cuda)
    return None


def check_toolkit(plan: Plan, wanted: str | None) -> None:
    """Raise `BuildFailed` when the root that the user named holds no compiler, or one of another CUDA major than the plan's torch.

    Asked on the machine that compiles, before anything is fetched.
    """
    if not wanted or wanted == FROM_INDEX or not plan.compiles or plan.cuda is None:
        return
    version = toolchain.version_at(Path(wanted))
    if version is None:
        raise BuildFailed(
            f"--cuda-toolkit {wanted} is no CUDA toolkit",
            why="it lacks bin/nvcc or the headers (include/cuda_runtime.h), or its nvcc does not run",
            hints=["`provision detect` lists the toolkits of this machine", "or leave --cuda-toolkit out"],
            code="no-compiler",
        )
    if version.split(".")[0] != plan.cuda.split(".")[0]:
        raise BuildFailed(
            f"--cuda-toolkit {wanted} is CUDA {version}, the plan's torch is CUDA {plan.cuda}",
            why="the majors must agree",
            hints=[
                "name another toolkit, or leave --cuda-toolkit out",
                f"or choose a torch for it: --cuda {'.'.join(version.split('.')[:2])}",
            ],
            code="cuda-mismatch",
        )


def requirements(plan: Plan, machine: Machine, wanted: str | None = None) -> tuple[str, ...]:
    """Return what the lock must fetch from the package index so that the plan can be built; nothing when nothing is built."""
    if plan.backend == "conda" or not plan.compiles or plan.cuda is None:
        return ()
    if toolkit_on_machine(plan, machine, wanted) is not None:
        return ()
    return toolchain.requirements(plan.toolkit or plan.cuda)


def toolkit_from_lock(lock: Lock, settings: IndexSettings) -> Path:
    """Return the root of the compiler that the lock's toolchain packages make, installed once into the cache."""
    packages = lock.of("pip", TOOLCHAIN)
    if not packages:
        raise BuildFailed(
            "flash-attn must be compiled, and neither this machine nor the lock has a CUDA compiler",
            hints=["lock anew on this machine: leave --lock out", "or name a toolkit: --cuda-toolkit /usr/local/cuda"],
            code="no-compiler",
        )
    key = hashlib.sha256("".join(sorted(package.sha256 for package in packages)).encode()).hexdigest()[:16]
    folder = paths.cache_dir() / "toolkits" / key
    if not (folder / "complete").exists():
        with exclusive(folder.with_suffix(".lock"), "installing the CUDA compiler"):
            if not (folder / "complete").exists():
                venv_backend.install_into(folder, packages, settings, label="fetching the CUDA compiler")
                toolchain.from_wheels(folder)
                (folder / "complete").touch()
    root = toolchain.from_wheels(folder)
    answer = process.run([root / "bin" / "nvcc", "--version"], timeout=30)
    if not answer.ok:
        raise BuildFailed(
            "the package index's CUDA compiler does not run",
            why=answer.err.strip()[-300:] or None,
            hints=["name a toolkit of this machine: --cuda-toolkit /usr/local/cuda", "`provision detect` lists them"],
            code="no-compiler",
        )
    progress.note(f"compiling with {answer.out.strip().splitlines()[-1]} from the package index")
    return root


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
