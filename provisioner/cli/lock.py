"""``provision lock``: the exact files of an environment, with hashes, as conda-lock.yml."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.cli.selection import Selection, selecting


@click.command("lock")
@click.option("-o", "--output-file", type=click.Path(path_type=Path), default="conda-lock.yml", show_default=True, metavar="FILE")
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="NAME|URL|PATH",
    help="Solve the conda part against this channel (repeatable).",
)
@click.option("--exclude-newer", metavar="DATE", help="Take nothing published after this date (YYYY-MM-DD).")
@click.option("--cuda-toolkit", metavar="DIR|index", help="Compile with this toolkit; `index` takes the package index's.")
@selecting
@speaking
def command(
    output_file: Path,
    channels: tuple[str, ...],
    exclude_newer: str | None,
    cuda_toolkit: str | None,
    selection: Selection,
    output: Output,
    offline: bool,
    yes: bool,
) -> None:
    """Resolve everything that the plan needs and write FILE, which `provision create --lock` and conda-lock install."""
    from provisioner.cli.plan_text import plan_lines
    from provisioner.cli.sources import require_index, with_sources
    from provisioner.environments.toolkit import requirements
    from provisioner.indexes import read_index_settings
    from provisioner.locking.conda_lock_file import write_lock
    from provisioner.locking.lock import LockOptions, make_lock
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    settings = read_index_settings()
    with output.progress():
        machine = with_sources(selection.machine, settings, channels)
        require_index(machine)
        plan = make_plan(machine, selection.request, load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir()))
        toolchain = requirements(plan, machine, cuda_toolkit)
        options = LockOptions(channels, _date(exclude_newer), toolchain)
        lock = make_lock(plan, machine, settings, options)
        write_lock(lock, output_file)
    if output.as_json:
        output.document(machine=machine, plan=plan, lock={"path": str(output_file.absolute()), "packages": len(lock.packages)})
        return
    if output.quiet:
        return
    for line in plan_lines(machine, plan):
        output.say(line)
    conda, pip = len([package for package in lock.packages if package.manager == "conda"]), len(lock.of("pip"))
    output.say(f"{'lock':<13}{output_file}: {conda} conda packages, {pip} from the package index, each with its sha256")


def _date(text: str | None) -> dt.datetime | None:
    from provisioner.errors import UsageError

    if text is None:
        return None
    try:
        parsed = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"--exclude-newer needs a date, not {text!r}", hints=["--exclude-newer 2026-11-01"]) from error
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.timezone.utc)
