"""Flash-attn for a Python that somebody else made: the right one for its torch, and nothing else, undone completely on failure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from provisioner import process
from provisioner.environments import venv_backend
from provisioner.environments.acceptance import accept_wheel
from provisioner.environments.flash_attn import obtain_wheel
from provisioner.environments.proof import prove
from provisioner.environments.restore import restored_on_failure
from provisioner.environments.toolkit import check_toolkit
from provisioner.errors import NoRoute, UsageError
from provisioner.indexes import IndexSettings
from provisioner.locking.lock import lock_flash_attn, target_of
from provisioner.locking.values import Lock
from provisioner.machine.facts import Machine, PythonInstall
from provisioner.planning.catalog import Catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import Plan, Request, Route
from provisioner.verifying.receipt import Receipt


@dataclass(frozen=True, slots=True)
class Installed:
    """The outcome: the wheel that was installed and the receipt, None when verification was skipped."""

    python: Path
    wheel: Path
    plan: Plan
    receipt: Receipt | None


def plan_beside(machine: Machine, request: Request, catalog: Catalog) -> Plan:
    """Return the plan for the interpreter whose software ``machine`` states: its Python, torch and CUDA are fixed.

    Raise `UsageError` when it has no CUDA torch, `NoRoute` when no flash-attn fits, or when the one that would be installed is outside
    the range of the xformers that is there.
    """
    software = machine.software
    if software.torch is None or software.python is None:
        raise UsageError(
            "there is no torch beside this Python",
            why="flash-attn is built for one torch",
            hints=["install torch first"],
            code="no-torch",
        )
    if software.torch_cuda is None:
        raise UsageError(
            f"torch {software.torch} is a CPU build", hints=["install a CUDA build of torch first"], code="cpu-torch"
        )
    fixed = replace(
        request,
        python=".".join(software.python.split(".")[:2]),
        torch=software.torch.partition("+")[0],
        cuda=".".join(software.torch_cuda.split(".")[:2]),
        only_flash_attn=True,
        backend="venv",
    )
    # The interpreter counts whether or not it is on PATH; that it has headers is checked before a build.
    itself = PythonInstall("", software.python, headers=True)
    plan = make_plan(replace(machine, pythons=(*machine.pythons, itself)), fixed, catalog)
    if plan.flash_attn is None:
        raise NoRoute(
            "there is no flash-attn for these GPUs",
            why="; ".join(plan.notes) or None,
            hints=[f"use {plan.attention}: nothing to install"],
        )
    _check_xformers(plan, software.xformers)
    return replace(plan, xformers=software.xformers)


def _check_xformers(plan: Plan, installed: str | None) -> None:
    from provisioner.knowledge.packages import xformers_release

    assert plan.flash_attn is not None
    known = xformers_release(installed) if installed else None
    version = plan.flash_attn.version.partition("+")[0]
    if known is None or known.accepts_flash_attn(version) or "XFORMERS_IGNORE_FLASH_VERSION_CHECK" in plan.activation:
        return
    raise NoRoute(
        f"flash-attn {version} would break xformers {installed}, which is installed there",
        why=f"`import xformers.ops` accepts flash-attn {known.flash_attn_min} to {known.flash_attn_max} only ({known.source}, {known.date})",
        hints=[f"choose one inside it: --flash-attn {known.flash_attn_max}", "or remove xformers first"],
        code="xformers-range",
    )


def install(
    python: Path,
    plan: Plan,
    machine: Machine,
    settings: IndexSettings,
    *,
    verify: bool = True,
    toolkit: str | None = None,
    jobs: int | None = None,
) -> Installed:
    """Install the plan's flash-attn beside ``python`` and prove it; on any failure the environment is as it was before.

    Raises what `check_toolkit`, `obtain_wheel`, `accept_wheel` and `prove` raise.
    """
    check_toolkit(plan, toolkit)
    site = site_packages(python)
    if plan.route is not Route.SHIM:  # the adapter needs nothing but torch
        _check_needs(python)
    target = target_of(plan, machine)
    lock = Lock(target.platform, lock_flash_attn(plan, target, settings))
    wheel = obtain_wheel(python, plan, machine, lock, settings, toolkit=toolkit, jobs=jobs)
    assert wheel is not None
    accept_wheel(wheel, python, plan, machine)
    with restored_on_failure(site, "flash-attn"):
        venv_backend.install_wheel(python, wheel, settings)
        receipt = prove(python, plan, gpu=machine.has_live_gpu, beside=True) if verify else None
    return Installed(python, wheel, plan, receipt)


def site_packages(python: Path) -> Path:
    """Return where ``python`` keeps its packages. Raise `UsageError` when it does not run."""
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    result = process.run([python, "-I", "-c", code], timeout=30)
    if not result.ok:
        raise UsageError(
            f"{python} does not run as a Python",
            why=result.err.strip()[-300:] or None,
            hints=["give the path of a Python, such as /opt/venv/bin/python"],
            code="bad-python",
        )
    return Path(result.last_line)


def _check_needs(python: Path) -> None:
    """Raise `UsageError` when what flash-attn imports is missing: it is not ours to add to somebody else's environment.

    The interpreter is asked: a virtual environment may see its base's packages.
    """
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('einops') is None)"
    if not process.run([python, "-I", "-c", code], timeout=30).ok:
        raise UsageError(
            "flash-attn imports einops, which is not installed there",
            hints=[f"uv pip install --python {python} einops", f"{python} -m pip install einops"],
            code="missing-build-dep",
        )
