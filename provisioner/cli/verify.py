"""``provision verify``: the proof of an environment, as a table of checks and a table of times."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, speaking
from provisioner.errors import VerificationFailed

if TYPE_CHECKING:
    from provisioner.environments.store import Environment
    from provisioner.verifying.receipt import Check, Receipt


@click.command()
@click.argument("name", required=False, shell_complete=environments_beginning)
@click.option("--python", type=click.Path(path_type=Path), help="The interpreter of the environment, instead of a name.")
@click.option("--quick", "mode", flag_value="quick", default="quick", help="Each kernel and feature once (the default).")
@click.option("--full", "mode", flag_value="full", help="Crossed over head dims, dtypes, grouping and lengths.")
@click.option("--timeout", metavar="SECONDS", type=click.FloatRange(min=1), help="Seconds for the checks of one GPU.")
@click.option(
    "--check-timeout", metavar="SECONDS", type=click.FloatRange(min=1), help="Seconds for one check; a longer one is a hang."
)
@click.option("--speed/--no-speed", default=True, help="Whether to time attention (not while others use the GPU).")
@click.option("--need-gpu", is_flag=True, help="Fail where torch sees no GPU.")
@click.option(
    "--receipt", "receipt_file", type=click.Path(path_type=Path, dir_okay=False), help="Write the receipt there as JSON."
)
@speaking
def command(
    name: str | None,
    python: Path | None,
    mode: str,
    timeout: float | None,
    check_timeout: float | None,
    speed: bool,
    need_gpu: bool,
    receipt_file: Path | None,
    output: Output,
    offline: bool,
    yes: bool,
) -> int:
    """Prove the environment NAME, or the one that is active: imports, attention against float64, refusals, speed, on every visible GPU.

    Exit 7 when a check fails. The receipt of a NAME is kept in its manifest.
    """
    from provisioner import paths
    from provisioner.cli.console import show_error
    from provisioner.codec import to_json
    from provisioner.environments import activation, proof
    from provisioner.verifying.expectation import Expectation
    from provisioner.verifying.verify import verify

    environment, interpreter = choose(name, python)
    with output.progress():
        receipt = verify(
            interpreter,
            expectation=Expectation(gpu=need_gpu),
            mode=mode,
            timeout=timeout,
            check_seconds=check_timeout,
            environment=activation.entered(environment.prefix, environment.manifest.plan, os.environ) if environment else None,
            speed=speed,
        )
    if receipt_file is not None:
        paths.write_atomic(receipt_file, to_json(receipt))
    if environment is not None:
        proof.keep(environment, receipt)
    error = None if receipt.passed else failure(receipt, f"provision doctor {name or f'--python {interpreter}'}")
    if output.as_json:
        output.document(receipt=receipt, passed=receipt.passed, error=error.to_dict() if error else None)
    elif not output.quiet:
        output.say(str(interpreter))
        show(receipt, output)
    if error is None:
        return 0
    show_error(error, as_json=False)  # the document holds it already
    return error.exit_code


def choose(name: str | None, python: Path | None) -> tuple[Environment | None, Path]:
    """Return the environment called ``name``, if given, and the interpreter: its own, ``python``, or that of the active environment.

    Raise `UsageError` when both or neither are there.
    """
    from provisioner.environments import store
    from provisioner.environments.names import check_name
    from provisioner.errors import UsageError
    from provisioner.machine.interpreter import default_python
    from provisioner.machine.system import LiveSystem

    if name is not None and python is not None:
        raise UsageError("give NAME or --python, not both")
    if name is not None:
        environment = store.find(check_name(name))
        return environment, environment.python
    active = python or default_python(LiveSystem())
    if active is None:
        raise UsageError("no Python is active", hints=["name an environment, or --python PATH"], code="no-python")
    return None, Path(active)


def failure(receipt: Receipt, next_command: str) -> VerificationFailed:
    """Return the error that a failed receipt ends in; its code is that of the first failed check, its hint ``next_command``."""
    from provisioner.verifying.receipt import Outcome

    failed = [check for check in receipt.checks if check.outcome is Outcome.FAILED]
    first = failed[0]
    return VerificationFailed(
        f"{len(failed)} of {len(receipt.checks)} checks failed, first: {first.name}",
        why=first.detail or None,
        hints=[next_command],
        code=first.code,
        details={"codes": sorted({check.code for check in failed if check.code})},
    )


def show(receipt: Receipt, output: Output) -> None:
    """Print the receipt for people: what runs where, the checks by group (each failed one in full), the times, the warnings."""
    versions = ", ".join(f"{name} {version}" for name, version in receipt.versions.items())
    output.say(f"{'; '.join(receipt.devices) or 'no GPU'}: {versions}")
    if receipt.archs:
        output.say(f"flash-attn has kernels for {', '.join(receipt.archs)}")
    for library, path in receipt.attention.items():
        output.say(f"{library} takes {path}")
    _show_checks(receipt.checks, output)
    _show_times(receipt, output)
    for warning in receipt.warnings:
        output.say(f"warning: {warning}")
    output.say(f"{'passed' if receipt.passed else 'FAILED'} in {receipt.seconds:.0f} s ({receipt.mode})")


def _show_checks(checks: tuple[Check, ...], output: Output) -> None:
    from rich.table import Table

    from provisioner.verifying.receipt import Outcome

    table = Table("checks", "passed", "refused as expected", "skipped", "failed", "worst error / limit", box=None)
    groups: dict[str, list[Check]] = {}
    for check in checks:
        groups.setdefault(_group(check), []).append(check)
    for group, members in groups.items():
        counts = Counter(check.outcome for check in members)
        shown = [
            str(counts[outcome] or "") for outcome in (Outcome.PASSED, Outcome.EXPECTED_REFUSAL, Outcome.SKIPPED, Outcome.FAILED)
        ]
        table.add_row(group, *shown, _worst(members))
    output.console().print(table)
    for check in checks:
        if check.outcome is Outcome.FAILED:
            numbers = f" error {check.error:.2e}, limit {check.limit:.2e}" if check.error is not None and check.limit else ""
            output.say(f"failed [{check.code}] {check.name}:{numbers} {check.detail}".rstrip())


def _group(check: Check) -> str:
    """Name the row of a check: imports one by one, computed cases by family, call and device."""
    where = "" if check.device is None else f" (GPU {check.device})"
    family, colon, case = check.name.partition(": ")
    return f"{family} {case.split()[0]}{where}" if colon and " " in case else check.name + where


def _worst(members: list[Check]) -> str:
    measured = [(check.error / check.limit, check) for check in members if check.error is not None and check.limit]
    if not measured:
        return ""
    _, check = max(measured, key=lambda pair: pair[0])
    return f"{check.error:.1e} / {check.limit:.1e}"


def _show_times(receipt: Receipt, output: Output) -> None:
    from rich.table import Table

    from provisioner.verifying.speed_report import rows

    measured = rows(receipt.timings)
    if not measured:
        return
    names = list(dict.fromkeys(name for row in measured for name in row.times))
    facts = receipt.timings[0]
    title = f"flash-attn against SDPA on this GPU: ms (TFLOP/s), causal, {facts['dtype']}, head dim {facts['head_dim']}"
    table = Table("GPU", "tokens", "pass", *names, title=title, title_justify="left", box=None)
    for row in measured:
        cells = [f"{row.times[name]:.3f} ({row.tflops[name]:.0f})" if name in row.times else "" for name in names]
        table.add_row("" if row.device is None else str(row.device), str(row.seqlen), row.direction, *cells)
    output.console().print(table)
