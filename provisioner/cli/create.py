"""``provision create``: from this machine to a proved environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.cli.selection import Selection, selecting
from provisioner.cli.sources import mirroring

if TYPE_CHECKING:
    from provisioner.environments.bundle_opening import OpenBundle
    from provisioner.environments.locked import Locked
    from provisioner.environments.store import Environment
    from provisioner.indexes import IndexSettings
    from provisioner.locking.values import Lock
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan, Request


@click.command("create")
@click.argument("name")
@click.option("--replace", "replacing", is_flag=True, help="Make NAME anew; the old one stays for `provision rollback`.")
@click.option("--no-verify", is_flag=True, help="Do not check the result (recorded in the manifest).")
@click.option("--dry-run", is_flag=True, help="Plan and lock, make nothing.")
@click.option(
    "--lock",
    "lock_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Make exactly what this lock says (ours, conda-lock's or pixi.lock).",
)
@click.option(
    "--bundle", type=click.Path(path_type=Path), metavar="DIR|FILE", help="Take everything from this bundle; no network."
)
@click.option("-o", "--lock-out", type=click.Path(path_type=Path), metavar="FILE", help="Write the lock there as well.")
@click.option("--channel", "channels", multiple=True, metavar="NAME|URL|PATH", help="Use this conda channel (repeatable).")
@click.option("--cuda-toolkit", metavar="DIR|index", help="Compile with this toolkit; `index` takes the package index's.")
@click.option(
    "--jobs", type=click.IntRange(1), metavar="N", help="Compile at most this many units at a time (fewer if memory is short)."
)
@selecting
@mirroring
@speaking
def command(
    name: str,
    replacing: bool,
    no_verify: bool,
    dry_run: bool,
    lock_file: Path | None,
    bundle: Path | None,
    lock_out: Path | None,
    channels: tuple[str, ...],
    cuda_toolkit: str | None,
    jobs: int | None,
    selection: Selection,
    output: Output,
    offline: bool,
    yes: bool,
) -> None:
    """Make the environment NAME for this machine, or for the one that the options describe.

    Facts, plan, lock, packages, flash-attn, proof: NAME appears when all of it is done. Exit codes are listed in the README.
    """
    from provisioner import progress
    from provisioner.cli.decided import check_decided
    from provisioner.cli.plan_text import plan_lines
    from provisioner.environments.create import CreateOptions, check_free, check_machine, create
    from provisioner.environments.locked import check_for
    from provisioner.indexes import read_index_settings
    from provisioner.locking.conda_lock_file import write_lock

    check_free(name, replace=replacing or dry_run)
    settings = read_index_settings()
    with output.progress(), ExitStack() as stack:
        opened = stack.enter_context(_open(bundle, lock_file, selection.machine)) if bundle else None
        machine = _machine(selection, settings, channels, bundle)
        locked = opened.locked if opened else _read_lock(lock_file, machine) if lock_file else None
        if locked:
            source = "--bundle" if opened else "--lock"
            decided = (locked.lock, locked.plan)
            check_decided(source, selection.request, decided, channels=channels, recipe_dirs=selection.recipe_dirs)
            check_for(locked.lock, machine)
        plan = locked.plan if locked else _plan(machine, selection)
        if not output.as_json and not output.quiet:
            for line in _foreign_lines(locked) if locked and locked.made_by != "provision" else plan_lines(machine, plan):
                output.prose(line)
        if not dry_run:
            for warning in check_machine(plan, machine, toolkit=cuda_toolkit):
                progress.note(warning)
        lock = locked.lock if locked else _lock(plan, machine, settings, channels, cuda_toolkit, selection.request)
        if lock_out is not None:
            write_lock(lock, lock_out)
        environment = None
        if not dry_run:
            options = CreateOptions(
                replacing,
                not no_verify,
                cuda_toolkit,
                jobs,
                lock_made_by=locked.made_by if locked else "provision",
                bundle=opened.manifest.digest if opened else None,
            )
            environment = create(name, plan, machine, lock, settings, options)
    _report(output, machine, plan, lock, lock_out, environment)


def _plan(machine: Machine, selection: Selection) -> Plan:
    from provisioner.cli.sources import as_asked
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    return make_plan(
        machine, as_asked(selection.request, machine), load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir())
    )


def _open(bundle: Path, lock_file: Path | None, machine: Machine) -> AbstractContextManager[OpenBundle]:
    from provisioner.environments.bundle_opening import opened

    return opened(bundle, lock_file, machine)


def _machine(selection: Selection, settings: IndexSettings, channels: tuple[str, ...], bundle: Path | None) -> Machine:
    """Return the machine with what answers; with a bundle nothing is asked, since the bundle is the only source."""
    from provisioner.cli.sources import require_index, with_sources
    from provisioner.machine.facts import Source

    if bundle is not None:
        return replace(selection.machine, sources=(Source("bundle", reachable=True, url=bundle.absolute().as_uri()),))
    machine = with_sources(selection.machine, settings, channels)
    require_index(machine)
    return machine


def _read_lock(path: Path, machine: Machine) -> Locked:
    from provisioner.environments.locked import read_locked

    return read_locked(path, machine)


def _foreign_lines(locked: Locked) -> Iterator[str]:
    """Yield what a lock of another tool holds; there is no choice to explain."""
    plan, conda = locked.plan, len(locked.lock.of("conda"))
    yield f"{'lock':<13}by {locked.made_by}: {conda} conda packages, {len(locked.lock.of('pip'))} from a package index, as they are"
    yield f"{'flash-attn':<13}{plan.flash_attn.version if plan.flash_attn else 'none'}"
    yield f"{'torch':<13}{plan.torch or 'none'}, CUDA {plan.cuda or 'not stated'}, Python {plan.python}"
    for note in plan.notes:
        yield f"{'note':<13}{note}"


def _lock(
    plan: Plan, machine: Machine, settings: IndexSettings, channels: tuple[str, ...], toolkit: str | None, request: Request
) -> Lock:
    from provisioner.environments.toolkit import requirements
    from provisioner.locking.lock import LockOptions, make_lock

    toolchain = requirements(plan, machine, toolkit)
    return make_lock(plan, machine, settings, LockOptions(channels, toolchain=toolchain, request=request))


def _report(
    output: Output, machine: Machine, plan: Plan, lock: Lock, lock_out: Path | None, environment: Environment | None
) -> None:
    written = str(lock_out.absolute()) if lock_out else None
    if output.as_json:
        made = None
        if environment is not None:
            made = {
                "name": environment.name,
                "prefix": str(environment.prefix),
                "python": str(environment.python),
                "receipt": environment.manifest.receipt,
            }
        output.document(
            machine=machine,
            plan=replace(plan, candidates=()),
            lock={"path": written, "packages": len(lock.packages)},
            environment=made,
        )
        return
    if output.quiet:
        return
    if environment is None:
        output.say(f"{'lock':<13}{len(lock.packages)} packages resolved{f', written to {lock_out}' if lock_out else ''}")
        output.say("dry run: nothing was made")
        return
    receipt = environment.manifest.receipt
    proved = "not verified (--no-verify)" if receipt is None else receipt.summary
    output.say(f"{'environment':<13}{environment.prefix}")
    output.say(f"{'proof':<13}{proved}")
    output.say()
    output.say(f'use it:  eval "$(provision activate {environment.name})"   or   provision run {environment.name} python …')
