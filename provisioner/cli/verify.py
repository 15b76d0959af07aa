"""``provision verify``: the proof of an environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, python_option, speaking
from provisioner.errors import ProvisionError, VerificationFailed, of_os_error

if TYPE_CHECKING:
    from provisioner.environments.store import Environment
    from provisioner.verifying.receipt import Receipt


@click.command()
@click.argument("name", required=False, shell_complete=environments_beginning)
@python_option("The interpreter of the environment to prove, instead of NAME")
@click.option("--quick", "mode", flag_value="quick", default="quick", help="Each kernel and feature once (the default).")
@click.option("--full", "mode", flag_value="full", help="Crossed over head dims, dtypes, grouping and lengths.")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    help="Seconds for each process: the imports, or the checks of one GPU (quick 300, full 900).",
)
@click.option(
    "--check-timeout",
    metavar="SECONDS",
    type=click.IntRange(1, 86_400),
    help="Seconds for one check; a longer one is a hang (quick 60, full 120).",
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
    timeout: int | None,
    check_timeout: int | None,
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
    from provisioner.cli.verify_text import show
    from provisioner.codec import to_json
    from provisioner.environments import activation, proof, store
    from provisioner.verifying.expectation import Expectation
    from provisioner.verifying.verify import verify

    environment, interpreter = choose(name, python)
    made_here = environment or store.environment_at(interpreter.parent.parent)
    if receipt_file is not None:
        paths.check_writable(receipt_file)
    with output.progress():
        receipt = verify(
            interpreter,
            expectation=Expectation(gpu=need_gpu),
            mode=mode,
            timeout=timeout,
            check_seconds=check_timeout,
            environment=activation.entered(made_here.prefix, made_here.manifest.plan, os.environ) if made_here else None,
            speed=speed,
        )
        if environment is not None:
            proof.keep(environment, receipt)
    error: ProvisionError | None = None
    if not receipt.passed:
        error = failure(receipt, f"provision doctor {name or f'--python {interpreter}'}")
    if receipt_file is not None:
        try:
            paths.write_atomic(receipt_file, to_json(receipt))
        except OSError as refused:  # a disk that is full by now: what was found is told all the same
            error = error or of_os_error(refused)
            if error is None:
                raise
    if output.as_json:
        output.document(receipt=receipt, passed=receipt.passed, error=error.to_dict() if error else None)
    else:
        output.say(str(interpreter))
        show(receipt, output)
    if error is None:
        return 0
    show_error(error, as_json=False)  # the document holds it already
    return error.exit_code


def choose(name: str | None, python: Path | None) -> tuple[Environment | None, Path]:
    """Return the environment called ``name``, if given, and the interpreter: its own, ``python``, or that of the active environment.

    Raise `UsageError` when both or neither are there, and as `find_interpreter` does.
    """
    from provisioner.environments import store
    from provisioner.environments.names import check_name
    from provisioner.errors import UsageError
    from provisioner.machine.interpreter import default_python
    from provisioner.machine.system import LiveSystem
    from provisioner.verifying.interpreter import find_interpreter

    if name is not None and python is not None:
        raise UsageError("give NAME or --python, not both", hints=["`provision list` shows what NAME may be"])
    if name is not None:
        environment = store.find(check_name(name))
        return environment, environment.python
    active = python or default_python(LiveSystem())
    if active is None:
        raise UsageError("no Python is active", hints=["name an environment, or --python PATH"], code="no-python")
    return None, find_interpreter(Path(active))


def failure(receipt: Receipt, next_command: str) -> VerificationFailed:
    """Return the error that a failed receipt ends in: the first failed check's code and what that means, ``next_command`` as its hint."""
    from provisioner.verifying.failures import MEANING
    from provisioner.verifying.receipt import Outcome

    failed = [check for check in receipt.checks if check.outcome is Outcome.FAILED]
    first = failed[0]
    return VerificationFailed(
        f"{len(failed)} of {len(receipt.checks)} checks failed, first: {first.name}",
        why="; ".join(filter(None, (first.told, MEANING.get(first.code or "")))) or None,
        hints=[next_command],
        code=first.code,
        details={"codes": sorted({check.code for check in failed if check.code})},
    )
