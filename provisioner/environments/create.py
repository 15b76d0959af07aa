"""Making an environment: in phases, into a fresh generation that becomes visible only when it is complete and proved.

preflight → packages → flash-attn (fetched or built, inspected, dry-linked) → proof → manifest and switch. Whatever fails or interrupts
leaves the old environment as it was and nothing of the new one, except what the caches hold.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from provisioner import __version__, download, process, progress
from provisioner.environments import conda_backend, preflight, store, venv_backend
from provisioner.environments.acceptance import accept_wheel
from provisioner.environments.activation import entered, write_activation_variables
from provisioner.environments.flash_attn import obtain_wheel
from provisioner.environments.manifest import FOLDER, LOCK_NAME, Manifest
from provisioner.environments.names import check_name
from provisioner.environments.proof import prove
from provisioner.environments.toolkit import check_toolkit, toolkit_on_machine
from provisioner.errors import UsageError, VerificationFailed
from provisioner.indexes import IndexSettings
from provisioner.locking.conda_lock_file import render
from provisioner.locking.values import Lock
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan
from provisioner.verifying.receipt import Receipt


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """How to create: ``replace`` an environment of that name, ``verify`` it, ``cuda_toolkit`` a root, ``index``, or None to choose.

    ``lock_made_by`` and ``bundle`` go into the manifest: the tool that wrote the lock and the digest of the bundle, if there is one.
    """

    replace: bool = False
    verify: bool = True
    cuda_toolkit: str | None = None
    jobs: int | None = None
    lock_made_by: str = "provision"
    bundle: str | None = None


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


def check_machine(plan: Plan, machine: Machine, *, toolkit: str | None = None) -> list[str]:
    """Do every check that needs no download and return warnings as sentences. Raise what the first failing check raises.

    With the conda backend Python, compilers and the CUDA toolkit come from the channel, so only the disk and a named toolkit are checked.
    """
    preflight.check_disk(machine, plan)
    check_toolkit(plan, toolkit)
    if plan.backend == "conda":
        return []
    python = venv_backend.choose_python(machine, plan.python)
    preflight.check_compiler(machine, plan)
    preflight.check_headers(python.headers, python.path, plan)
    toolkit_on_machine(plan, machine, toolkit)
    return preflight.warnings(machine, plan, headers=python.headers)


def create(
    name: str, plan: Plan, machine: Machine, lock: Lock, settings: IndexSettings, options: CreateOptions
) -> store.Environment:
    """Create the environment ``name`` from ``lock`` and return it, proved unless the options say not to.

    Raises: `UsageError` (name), `NoRoute` (Python, disk), `BuildFailed`, `SourceUnreachable`, `IntegrityError`,
    `VerificationFailed`, `Busy`.
    """
    check_free(name, replace=options.replace)
    check_machine(plan, machine, toolkit=options.cuda_toolkit)
    with store.held(name):
        check_free(name, replace=options.replace)
        store.sweep()
        previous = store.current(name)
        with store.new_generation(name) as generation:
            environment = _fill(generation, plan, machine, lock, settings, options, previous)
        store.prune(environment)
    return environment


def _fill(
    generation: store.Generation,
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
    python = _base(prefix, plan, machine, lock, settings)
    packages = [package for package in lock.of("pip") if package.name != "flash-attn"]
    venv_backend.install(python, packages, settings, label=f"installing {len(packages)} packages")
    wheel = obtain_wheel(python, plan, machine, lock, settings, toolkit=options.cuda_toolkit, jobs=options.jobs)
    if wheel is not None:
        accept_wheel(wheel, python, plan, machine)
        venv_backend.install_wheel(python, wheel, settings)
    write_activation_variables(prefix, plan.activation)
    receipt = _receipt(generation.name, python, plan, machine) if options.verify else None
    manifest = Manifest(
        name=generation.name,
        generation=generation.id,
        backend=plan.backend,
        created_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        provision=__version__,
        plan=plan,
        machine=machine,
        lock_sha256=hashlib.sha256(text.encode()).hexdigest(),
        flash_attn_wheel_sha256=download.file_sha256(wheel) if wheel is not None else None,
        receipt=receipt,
        previous=previous,
        lock_made_by=options.lock_made_by,
        bundle=options.bundle,
    )
    return generation.commit(manifest)


def _receipt(name: str, python: Path, plan: Plan, machine: Machine) -> Receipt | None:
    """Prove the environment; where a foreign lock brings no torch, only that its Python starts."""
    if plan.torch:
        inside = entered(python.parent.parent, plan, os.environ)
        return prove(python, plan, gpu=machine.has_live_gpu, name=name, environment=inside)
    answer = process.run([python, "-I", "-c", "import ssl, ctypes"], timeout=60)
    if not answer.ok:
        raise VerificationFailed(
            "the Python of this lock does not start",
            why=answer.err.strip()[-300:] or None,
            hints=["check that the lock is for this platform and glibc: `provision lock --check FILE`"],
        )
    progress.note("there is no torch in this lock: only its Python was checked")
    return None


def _base(prefix: Path, plan: Plan, machine: Machine, lock: Lock, settings: IndexSettings) -> Path:
    """Make the prefix with its Python, by the plan's backend, and return the interpreter."""
    if plan.backend == "conda":
        conda_backend.install(prefix, lock.of("conda"), plan.conda_specs)
    else:
        venv_backend.make_venv(prefix, Path(venv_backend.choose_python(machine, plan.python).path), settings)
    return prefix / "bin" / "python"
