"""``provision capture``: this machine as a folder that any other machine can plan for."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from provisioner.cli.console import Output
from provisioner.cli.options import interpreter_option, speaking


@click.command("capture")
@click.argument("directory", type=click.Path(file_okay=False, path_type=Path))
@interpreter_option
@speaking
def command(directory: Path, python: Path | None, output: Output, offline: bool, yes: bool) -> None:
    """Write what the probes see on this machine to DIRECTORY, for `--machine DIRECTORY` elsewhere or for a bug report.

    Serial numbers, UUIDs, and the names of user and host are taken out.
    """
    from provisioner.machine.capture import write_capture

    machine = write_capture(directory, python=python)
    if output.as_json:
        output.document(machine=machine)
        return
    gpus = ", ".join(gpu.name or "unnamed" for gpu in machine.gpus) or "no GPU"
    output.say(f"captured in {directory}: {gpus}; driver {machine.driver.version or 'none'}")
    output.say(f"plan for it anywhere: provision plan --machine {shlex.quote(str(directory))}")
