"""``provision lock``: the exact files of an environment, with hashes, as conda-lock.yml."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.cli.selection import Selection, selecting
from provisioner.cli.sources import mirroring
from provisioner.errors import ProvisionError, UsageError

if TYPE_CHECKING:
    from provisioner.locking.values import Lock
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan, Request

F = TypeVar("F", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)
FORMATS = click.Choice(["explicit", "environment.yml", "pylock", "pixi.lock", "cyclonedx"])


def _stacked(function: F, options: tuple[Callable[[F], F], ...]) -> F:
    for option in reversed(options):
        function = option(function)
    return function


def writing(function: F) -> F:
    """Add the options on what is written: the file, further formats, and from which lock."""
    return _stacked(
        function,
        (
            click.option(
                "-o",
                "--output-file",
                type=PATH,
                default="conda-lock.yml",
                show_default=True,
                metavar="FILE",
                help="Where to write.",
            ),
            click.option("--format", "formats", type=FORMATS, multiple=True, help="Write this beside FILE as well (repeatable)."),
            click.option("--from", "source", type=PATH, metavar="LOCK", help="Resolve nothing: write the formats of this lock."),
        ),
    )


def targeting(function: F) -> F:
    """Add the options on what is locked for, beyond the machine that the selection names."""
    platform = "Lock for this platform: linux-64, linux-aarch64 (repeatable)."
    return _stacked(
        function,
        (
            click.option("--platform", "platforms", multiple=True, metavar="NAME", help=platform),
            click.option("--gpu-class", "classes", multiple=True, metavar="sm_XX", help="Lock for this GPU class (repeatable)."),
        ),
    )


def drawing(function: F) -> F:
    """Add the options on where packages come from."""
    channel = "Solve the conda part against this channel (repeatable)."
    return _stacked(
        function,
        (
            click.option("--channel", "channels", multiple=True, metavar="NAME|URL|PATH", help=channel),
            click.option(
                "--exclude-newer", metavar="DATE", help="Take nothing published after this day (YYYY-MM-DD, its end in UTC)."
            ),
            click.option("--refresh", is_flag=True, help="Ask every index again: reuse no answer of the last ten minutes."),
            click.option(
                "--cuda-toolkit", metavar="DIR|index", help="Compile with this toolkit; `index` takes the package index's."
            ),
        ),
    )


def comparing(function: F) -> F:
    """Add the options that start from a lock which is there."""
    return _stacked(
        function,
        (
            click.option(
                "--update", "moving", multiple=True, metavar="PKG", help="Move this package in FILE, the rest only if it must."
            ),
            click.option(
                "--check", "checked", metavar="FILE|NAME", help="Say whether this lock, or environment, is still right."
            ),
            click.option("--diff", "compared", type=PATH, metavar="OLD", help="Say what changed from OLD to NEW."),
        ),
    )


@click.command("lock")
@click.argument("new", type=PATH, required=False)
@writing
@targeting
@drawing
@comparing
@selecting
@mirroring
@speaking
def command(
    new: Path | None,
    output_file: Path,
    formats: tuple[str, ...],
    source: Path | None,
    platforms: tuple[str, ...],
    classes: tuple[str, ...],
    channels: tuple[str, ...],
    exclude_newer: str | None,
    refresh: bool,
    cuda_toolkit: str | None,
    moving: tuple[str, ...],
    checked: str | None,
    compared: Path | None,
    selection: Selection,
    output: Output,
    offline: bool,
    yes: bool,
) -> int:
    """Resolve everything that the plan needs and write FILE, which `provision create --lock` and conda-lock install.

    With --check, --diff or --from nothing is resolved. NEW is for --diff: what OLD is compared with, FILE where it is left out.
    """
    from provisioner.cli import lock_check, lock_reports
    from provisioner.cli.lock_files import read_any
    from provisioner.kept_answers import refresh as asking_again

    tasks = {"--check": checked, "--diff": compared, "--from": source, "--update": moving}
    _check_task(tasks, bool(platforms or classes))
    _check_read(next((task for task, value in tasks.items() if value), None))
    if new is not None and compared is not None and _stated("output_file"):
        raise UsageError(f"--diff compares with {new} or with {output_file}, not with both", hints=["leave one of them away"])
    if new is not None and compared is None:
        raise UsageError(f"unexpected argument {new}", hints=[f"to write there: provision lock -o {new}"])
    if checked is not None:
        return lock_check.check(checked, selection, output)
    if compared is not None:
        return lock_reports.difference(compared, _newer(new, output_file), output)
    if source is not None:
        return lock_reports.converted(source, output_file.parent if _stated("output_file") else source.parent, formats, output)
    paths.check_writable(output_file)
    drawn = _Drawn(channels, _date(exclude_newer), cuda_toolkit, conda_needed=bool(platforms))
    with ExitStack() as stack:
        stack.enter_context(output.progress())
        stack.callback(asking_again.reset, asking_again.set(refresh))
        before = None
        if moving:
            before = read_any(output_file)[0]
            results = [lock_reports.moved(before, output_file, moving, selection, drawn)]
        else:
            results = _locks(selection, platforms, classes, drawn)
        files = _write([lock for _, _, lock in results], output_file, formats)
    return lock_reports.written(results, files, output, before, formats)


def _check_task(tasks: Mapping[str, object], several: bool) -> None:
    """Raise `UsageError` for options that ask for two things at once, one of which would be left undone without a word."""
    asked = [name for name, value in tasks.items() if value]
    if several:
        asked.append("--platform and --gpu-class")
    if len(asked) > 1:
        raise UsageError(
            f"{asked[0]} does not go with {asked[1]}",
            why="each starts from another place: a lock that is there, or the targets to lock for",
            hints=["run one after the other"],
        )


_DRAWING = ("channels", "exclude_newer", "cuda_toolkit", "refresh")
_MACHINE = ("gpus", "driver", "machine_path", "wsl", "glibc")
_WISHES = ("python_version", "torch", "cuda", "flash_attn", "recipe", "backend", "build", "allow_community", "only", "packages")
_SELECTING = (*_MACHINE, *_WISHES, "kernels", "head_dims", "dtypes", "features", "recipe_dirs", "mirror")
_UNREAD = {
    "--check": ("formats", "output_file", *_DRAWING),
    "--diff": ("formats", *_DRAWING, *_SELECTING),
    "--from": (*_DRAWING, *_SELECTING),
}
"""The options, by their parameters, that each task passes over."""


def _check_read(task: str | None) -> None:
    """Raise `UsageError` for a stated option that this task would not read, and for GPUs stated in two ways."""
    context = click.get_current_context()
    options = {parameter.name: parameter.opts[-1] for parameter in context.command.params}
    ignored = [options[name] for name in _UNREAD.get(task or "", ()) if _stated(name)]
    if ignored:
        raise UsageError(
            f"{task} does not read {', '.join(ignored)}", why="it resolves nothing", hints=[f"leave {', '.join(ignored)} away"]
        )
    if _stated("classes") and (_stated("gpus") or _stated("machine_path")):
        raise UsageError(
            "--gpu-class says for which GPUs to lock, and so do --gpu and --machine", hints=["leave one of them away"]
        )


def _stated(name: str) -> bool:
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(name) is ParameterSource.COMMANDLINE


def _newer(new: Path | None, output_file: Path) -> Path:
    """Return what --diff compares with: NEW, or else FILE. Raise `UsageError` when it is not there."""
    if new is None and not output_file.is_file():
        raise UsageError(
            f"--diff OLD compares with NEW, or with {output_file} where NEW is left out, and that does not exist",
            hints=["provision lock --diff OLD NEW"],
            code="no-lock",
        )
    return new or output_file


class _Drawn:
    """Where packages come from: channels, date and toolkit of this run; ``lock`` makes one lock from them."""

    def __init__(
        self, channels: tuple[str, ...], exclude_newer: dt.datetime | None, toolkit: str | None, *, conda_needed: bool
    ) -> None:
        from provisioner.indexes import read_index_settings

        self.channels, self.exclude_newer, self.toolkit, self.conda_needed = channels, exclude_newer, toolkit, conda_needed
        self.settings = read_index_settings()

    def reached(self, machine: Machine, selection: Selection) -> Machine:
        """Return the machine with what answers; a channel that does not matters to `create`, not here: there is the snapshot."""
        from provisioner.cli.sources import channel_not_needed, require_index, with_sources

        found = with_sources(machine, self.settings, self.channels)
        require_index(found)
        if self.channels or selection.request.backend != "conda":
            return found
        return channel_not_needed(found)

    def as_before(self, lock: Lock) -> None:
        """Draw on what is not newer than an earlier lock was to be, where no other date is stated."""
        if self.exclude_newer is None and (date := lock.metadata.get("provision-exclude-newer")):
            self.exclude_newer = _date(date)

    def lock(
        self, plan: Plan, machine: Machine, request: Request, previous: Lock | None = None, moving: tuple[str, ...] = ()
    ) -> Lock:
        from provisioner.environments.toolkit import requirements
        from provisioner.locking.lock import LockOptions, make_lock

        options = LockOptions(
            self.channels,
            self.exclude_newer,
            requirements(plan, machine, self.toolkit),
            conda_needed=self.conda_needed,
            previous=previous,
            moving=moving,
            request=request,
        )
        return make_lock(plan, machine, self.settings, options)


def _locks(
    selection: Selection, platforms: tuple[str, ...], classes: tuple[str, ...], drawn: _Drawn
) -> list[tuple[Machine, Plan, Lock]]:
    from provisioner.cli.lock_targets import machines
    from provisioner.cli.sources import as_asked
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    reached = drawn.reached(selection.machine, selection)
    catalog = load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir())
    results = []
    targets = machines(reached, platforms, classes)
    for machine in targets:
        try:
            plan = make_plan(machine, as_asked(selection.request, machine), catalog)
            results.append((machine, plan, drawn.lock(plan, machine, selection.request)))
        except ProvisionError as error:
            if len(targets) > 1:
                error.what = f"for {_target(machine)}: {error.what}"
            raise
    return results


def _target(machine: Machine) -> str:
    """Return what a machine is as a target of a lock, as its file names it."""
    from provisioner.capability import ComputeCapability
    from provisioner.locking.targets import Target, conda_platform

    classes = dict.fromkeys(ComputeCapability.parse(gpu.compute_capability).sm for gpu in machine.gpus if gpu.compute_capability)
    return str(Target(conda_platform(machine.platform.machine), tuple(classes)))


def _write(locks: list[Lock], output_file: Path, formats: tuple[str, ...]) -> list[tuple[Path, Lock]]:
    """Write as few files as hold these locks, the asked formats beside them, and return the lock files."""
    from provisioner.cli.lock_reports import write_formats
    from provisioner.locking.conda_lock_file import write_lock
    from provisioner.locking.targets import file_of, joined

    together = joined(locks)
    files = []
    for lock in together:
        path = file_of(output_file, lock, len(together))
        write_lock(lock, path)
        write_formats(lock, path, formats)
        files.append((path, lock))
    return files


_DAY = re.compile(r"\d{4}-?\d\d-?\d\d")


def _date(text: str | None) -> dt.datetime | None:
    from provisioner.locking.values import end_of_day

    if text is None:
        return None
    try:
        parsed = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError as error:
        raise UsageError(f"--exclude-newer needs a date, not {text!r}", hints=["--exclude-newer 2026-11-01"]) from error
    parsed = parsed if parsed.tzinfo else parsed.replace(tzinfo=dt.timezone.utc)
    return end_of_day(parsed) if _DAY.fullmatch(text) else parsed
