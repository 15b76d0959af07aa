"""``provision doctor``: what is wrong with an environment, or with the machine that a pasted report shows, and how to fix it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.doctor_memory import MemoryOptions, memory_options
from provisioner.cli.doctor_text import finding_lines, say_findings, show
from provisioner.cli.options import environments_beginning, python_option, speaking

if TYPE_CHECKING:
    from provisioner.diagnosing.findings import Finding
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan


@click.command("doctor")
@click.argument("name", required=False, shell_complete=environments_beginning)
@click.option(
    "--report",
    "report",
    metavar="FILE",
    help="Read a pasted report (any mixture of tools' output, or torch's memory snapshot) from FILE, or from stdin with -.",
)
@python_option("The interpreter of the environment to examine", broken=True)
@click.option("--pid", type=click.IntRange(1), metavar="PID", help="Say what a running process does or waits for.")
@click.option("--fix", is_flag=True, help="Show the repairs, ask, apply them, and examine again.")
@click.option("--dry-run", is_flag=True, help="With --fix: only show the repairs.")
@click.option(
    "--emit-script", is_flag=True, help="Print a script that takes the inventory in any Python, with nothing installed."
)
@memory_options
@speaking
def command(
    name: str | None,
    report: str | None,
    python: Path | None,
    pid: int | None,
    fix: bool,
    dry_run: bool,
    emit_script: bool,
    memory: MemoryOptions,
    output: Output,
    offline: bool,
    yes: bool,
) -> int:
    """Examine the environment NAME, or the one that is active; with --report, a report from another machine.

    Exits 1 when something is wrong. At most one finding is the cause; it says which others follow from it.
    """
    from provisioner.diagnosing import inventory
    from provisioner.diagnosing.findings import Severity

    if emit_script:
        sys.stdout.write(inventory.script())
        return 0
    _check_options(report, name, python, fix)
    if pid is not None:
        return _process(pid, output)
    if memory.wanted:
        return _memory(memory, name, python, output)
    if report is not None:
        from provisioner.diagnosing.memory.observed import is_snapshot
        from provisioner.diagnosing.reports import diagnose_report
        from provisioner.machine.report import decode

        raw = _bytes(report)
        machine, findings = _of_snapshot(raw) if is_snapshot(raw) else diagnose_report(decode(raw))
    else:
        interpreter = _interpreter(name, python)
        machine, findings = _examined(interpreter, output)
        if fix:
            machine, findings = _repaired(interpreter, machine, findings, output, dry_run=dry_run, yes=yes, offline=offline)
    plan, reason = _plan(machine, findings, offline, pasted=report is not None)
    if output.as_json:
        output.document(machine=machine, findings=findings, plan=plan)
    else:
        show(output, machine, findings, plan, reason, stated_only=report is not None)
    return 1 if any(finding.severity is Severity.ERROR for finding in findings) else 0


def _check_options(report: str | None, name: str | None, python: Path | None, fix: bool) -> None:
    from provisioner.errors import UsageError

    if report is not None and (name or python or fix):
        raise UsageError(
            "--report is about another machine: it goes with neither NAME, --python nor --fix",
            hints=["provision doctor --report FILE", "or, for an environment here: provision doctor NAME"],
        )
    if name and python:
        raise UsageError("give NAME or --python, not both", hints=["`provision list` shows what NAME may be"])


def _process(pid: int, output: Output) -> int:
    """Show what a running process does; 1 when it hangs."""
    from provisioner.diagnosing import hangs, running
    from provisioner.diagnosing.candidates import resolve

    with output.progress():
        attempt = running.watch(pid)
    return _told(resolve([hangs.judge_process(pid, attempt.seconds, hangs.evidence_of(attempt))]), (), output, process=attempt)


def _told(findings: tuple[Finding, ...], lines: tuple[str, ...], output: Output, **parts: object) -> int:
    """Print ``lines`` and the findings, or the document with ``parts``; return 1 when one of them is an error."""
    from provisioner.diagnosing.findings import Severity

    if output.as_json:
        output.document(**parts, findings=findings)
    else:
        for line in lines:
            output.say(line)
        say_findings(output, findings)
    return 1 if any(finding.severity is Severity.ERROR for finding in findings) else 0


def _memory(options: MemoryOptions, name: str | None, python: Path | None, output: Output) -> int:
    """Show the memory report; 1 when something is wrong."""
    from provisioner.cli.doctor_memory import report, report_lines
    from provisioner.diagnosing.candidates import resolve

    with output.progress():
        shown, candidates = report(options, _interpreter(name, python) if options.probe else None)
    return _told(resolve(candidates), (*report_lines(shown), ""), output, memory=shown)


def _of_snapshot(raw: bytes) -> tuple[Machine, tuple[Finding, ...]]:
    """What a file of torch.cuda.memory._dump_snapshot shows: no machine, only how the allocator's memory lies."""
    from provisioner.diagnosing.candidates import resolve
    from provisioner.diagnosing.memory import judging
    from provisioner.diagnosing.memory.observed import read_snapshot
    from provisioner.machine.facts import Machine

    return Machine(), resolve(judging.fragmentation(read_snapshot(raw)))


def _bytes(report: str) -> bytes:
    from provisioner.errors import UsageError

    try:
        return sys.stdin.buffer.read() if report == "-" else Path(report).read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {report}: {error.strerror or error}",
            hints=["give a text file, or paste into `provision doctor --report -` and end with Ctrl-D"],
            code="no-report",
        ) from error


def _interpreter(name: str | None, python: Path | None) -> Path:
    from provisioner.errors import UsageError
    from provisioner.machine.interpreter import default_python
    from provisioner.machine.system import LiveSystem

    if name:
        from provisioner.environments import store
        from provisioner.environments.names import check_name

        return store.find(check_name(name)).prefix / "bin" / "python"
    from provisioner.diagnosing.interpreters import is_environment

    found = python or (Path(active) if (active := default_python(LiveSystem())) else None)
    if found is None or not (found.exists() or is_environment(found)):
        raise UsageError(
            f"there is no Python at {found}" if found else "no Python is active",
            hints=["name an environment, or --python PATH"],
            code="no-python",
        )
    return found


def _examined(interpreter: Path, output: Output) -> tuple[Machine, tuple[Finding, ...]]:
    """Examine the machine and the environment at the same time; one whose Python does not start is judged by its files."""
    from concurrent.futures import ThreadPoolExecutor

    from provisioner import progress
    from provisioner.diagnosing import interpreters
    from provisioner.diagnosing.candidates import resolve
    from provisioner.diagnosing.environments import diagnose
    from provisioner.diagnosing.inventory import take
    from provisioner.diagnosing.memory.devices import devices
    from provisioner.errors import UsageError
    from provisioner.machine.probe import probe

    with output.progress(), progress.task(f"examining {interpreter}"), ThreadPoolExecutor(1) as beside:
        asked = beside.submit(probe, python=interpreter)
        try:
            inventory = take(interpreter, activation=_activation(interpreter.parent.parent))
        except UsageError as error:
            if not interpreters.is_environment(interpreter) or interpreters.starts(interpreter):
                raise
            return asked.result(), resolve([interpreters.judge(interpreter, asked.result(), error.why or error.what)])
        machine = asked.result()
        return machine, diagnose(machine, inventory, devices() if machine.gpus else ())


def _activation(prefix: Path) -> dict[str, str]:
    """The variables that activating one of our own environments sets; none for another's."""
    from provisioner.environments.store import environment_at

    found = environment_at(prefix)
    return found.manifest.plan.activation if found else {}


ROUNDS = 4
"""How often repairs are looked for: torch, then what was compiled for it, then the right flash-attn, then a copy under another path."""


def _repaired(
    interpreter: Path,
    machine: Machine,
    findings: tuple[Finding, ...],
    output: Output,
    *,
    dry_run: bool,
    yes: bool,
    offline: bool,
) -> tuple[Machine, tuple[Finding, ...]]:
    """Repair what can be, examining anew after each round; without consent everything stays as it was."""
    from provisioner.cli.doctor_fix import repair
    from provisioner.diagnosing.fixing import now, steps

    if not steps(findings):
        output.say("Nothing here can be repaired automatically.")
    elif not dry_run:  # after a dry run they are shown in full
        for finding in findings:
            output.prose(finding_lines(finding)[0])
    for _ in range(ROUNDS):
        before = steps(findings)
        if not before or not repair(interpreter, machine, before, output, dry_run=dry_run, yes=yes, offline=offline):
            break
        moved = [step.moved_to for step in now(before) if step.moved_to]
        interpreter = Path(moved[0]) if moved else interpreter
        machine, findings = _examined(interpreter, output)
        if steps(findings) == before:
            break
    return machine, findings


_NO_PLAN = ("arch-unsupported", "no-gpu", "rocm-not-cuda", "musl-unsupported")
"""How the codes begin that rule out a CUDA plan even where no GPU is named."""


def _plan(machine: Machine, findings: tuple[Finding, ...], offline: bool, *, pasted: bool) -> tuple[Plan | None, str | None]:
    """The plan for the machine, or why there is none; a pasted report's is asked for as its owner runs it.

    A report that names no GPU is planned for any of 8.0 and newer (the plan says so), unless its cause says that none such is there.
    """
    from provisioner.errors import ProvisionError
    from provisioner.machine.facts import Machine

    if not machine.gpus and not pasted:
        return None, "no GPU is known"
    if machine == Machine() and not findings:
        return None, "nothing is stated of it"
    if not machine.gpus and (
        why := next((found for found in findings if found.primary and found.code.startswith(_NO_PLAN)), None)
    ):
        return None, why.title
    try:
        from provisioner.planning.catalog import load_catalog
        from provisioner.planning.plan import make_plan
        from provisioner.planning.report_request import request_for_report
        from provisioner.planning.values import Request

        request = replace(request_for_report(machine), offline=offline) if pasted else Request(offline=offline)
        return make_plan(machine, request, load_catalog()), None
    except ProvisionError as error:
        return None, error.what
