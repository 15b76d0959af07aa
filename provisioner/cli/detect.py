"""``provision detect``: the facts about this machine, each with the source that answered."""

from __future__ import annotations

from pathlib import Path

import click

from provisioner.cli.console import Output
from provisioner.cli.options import interpreter_option, speaking


@click.command("detect")
@interpreter_option
@speaking
def command(python: Path | None, output: Output, offline: bool, yes: bool) -> None:
    """Show the GPUs, driver, operating system, limits, toolkits, compilers and Pythons of this machine.

    Nothing is changed and nothing is judged; `provision plan` says what can be done with it.
    """
    from provisioner.cli.machine_text import machine_lines
    from provisioner.machine.probe import probe

    machine = probe(python=python)
    if output.as_json:
        output.document(machine=machine)
        return
    for line in machine_lines(machine):
        output.prose(line)
