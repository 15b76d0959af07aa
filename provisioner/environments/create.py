"""Making an environment: in phases, into a fresh generation that becomes visible only when it is complete and proved.

preflight → packages → flash-attn (fetched or built, inspected, dry-linked) → proof → manifest and switch. Whatever fails or interrupts
leaves the old environment as it was and nothing of the new one, except what the caches hold.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from pathlib import Path

from provisioner import __version__, download
from provisioner.environments import preflight, store, venv_backend
from provisioner.environments.acceptance import accept_wheel
from provisioner.environments.activation import write_activation_variables
from provisioner.environments.flash_attn import obtain_wheel
from provisioner.environments.manifest import FOLDER, LOCK_NAME, Manifest
from provisioner.environments.names import check_name
from provisioner.environments.proof import prove
from provisioner.environments.toolkit import toolkit_on_machine
from provisioner.errors import UsageError
from provisioner.indexes import IndexSettings
from provisioner.locking.conda_lock_file import render
from provisioner.locking.values import Lock
from provisioner.machine.facts import Machine, PythonInstall
from provisioner.planning.values import Plan

LIVE_SOURCES = ("nvml", "nvidia-smi")
"""GPU facts from these sources mean that the GPU is here, and that the environment can be proved on it."""


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """How to create: ``replace`` an environment of that name, ``verify`` it, ``cuda_toolkit`` a root, ``index``, or None to choose."""

    replace: bool = False
    verify: bool = True
    cuda_toolkit: str | None = None
    jobs: int | None = None


def check_free(name: str, *, replace: bool) -> None:
    """Raise `UsageError` when ``name`` is no name, or is taken and not to be replaced."""
    check_name(name)
    if not replace and store.exists(name):
        raise UsageError(
            f"there is already an environment {name!r}",
            hints=[
                f"use it: provision activate {name}",
                f"make it anew, keeping the old one for `provision rollback`: provision create {name} --replace",
                f"or remove it first: provision remove {name}",
            ],
            code="environment-exists",
        )


def check_machine(plan: Plan, machine: Machine, *, toolkit: str | None = None) -> PythonInstall:
    """Return the interpreter to use, after every check that needs no download. Raise what the first failing one raises."""
    python = venv_backend.choose_python(machine, plan.python)
    preflight.check_compiler(machine, plan)
    preflight.check_headers(python.headers, python.path, plan)
    toolkit_on_machine(plan, machine, toolkit)
    preflight.check_disk(machine, plan)
    return python


def create(
    name: str, plan: Plan, machine: Machine, lock: Lock, settings: IndexSettings, options: CreateOptions
) -> store.Environment:
    """Create the environment ``name`` from ``lock`` and return it, proved unless the options say not to.

    Raises: `UsageError` (name), `NoRoute` (Python, disk), `BuildFailed`, `SourceUnreachable`, `IntegrityError`,
    `VerificationFailed`, `Busy`.
    """
    check_free(name, replace=options.replace)
    python = check_machine(plan, machine, toolkit=options.cuda_toolkit)
    with store.held(name):
        check_free(name, replace=options.replace)
        store.sweep()
        previous = store.find(name).prefix.name if store.exists(name) else None
        with store.new_generation(name) as generation:
            environment = _fill(generation, python, plan, machine, lock, settings, options, previous)
        store.prune(environment)
    return environment


def _fill(
    generation: store.Generation,
    python: PythonInstall,
    plan: Plan,
    machine: Machine,
    lock: Lock,
    settings: IndexSettings,
    options: CreateOptions,
    previous: str | None,
) -> store.Environment:
    prefix = generation.prefix
    text = render(lock)
    (prefix / FOLDER / LOCK_NAME).write_text(text)
    venv_backend.make_venv(prefix, Path(python.path), settings)
    packages = [package for package in lock.of("pip") if package.name != "flash-attn"]
    venv_backend.install(prefix, packages, settings, label=f"installing {len(packages)} packages")
    interpreter = prefix / "bin" / "python"
    wheel = obtain_wheel(interpreter, plan, machine, lock, settings, toolkit=options.cuda_toolkit, jobs=options.jobs)
    if wheel is not None:
        accept_wheel(wheel, interpreter, plan, machine)
        venv_backend.install_wheel(interpreter, wheel, settings)
    write_activation_variables(prefix, plan.activation)
    receipt = prove(interpreter, plan, gpu=any(gpu.source in LIVE_SOURCES for gpu in machine.gpus)) if options.verify else None
    manifest = Manifest(
        name=generation.name,
        generation=generation.id,
        backend="venv",
        created_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        provision=__version__,
        plan=plan,
        machine=machine,
        lock_sha256=hashlib.sha256(text.encode()).hexdigest(),
        flash_attn_wheel_sha256=download.file_sha256(wheel) if wheel is not None else None,
        receipt=receipt,
        previous=previous,
    )
    return generation.commit(manifest)
