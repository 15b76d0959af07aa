"""``provision run``: one command inside an environment."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import sys

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, speaking


@click.command("run", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--observe", is_flag=True, help="Let `provision doctor` ask COMMAND's Pythons for their stack and torch's memory.")
@click.argument("name", shell_complete=environments_beginning)
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="COMMAND [ARGS]...")
@speaking
def command(observe: bool, name: str, words: tuple[str, ...], output: Output, offline: bool, yes: bool) -> None:
    """Run COMMAND inside the environment NAME; its exit code is the command's own."""
    from provisioner.environments import activation, store
    from provisioner.environments.names import check_name
    from provisioner.errors import UsageError

    environment = store.find(check_name(name))
    words = words[1:] if words[0] == "--" else words
    argv, changed = activation.command(environment, words, os.environ)
    program = shutil.which(argv[0], path=changed["PATH"]) if words else None
    if program is None:
        raise UsageError(
            f"{words[0] if words else 'a command'} is not in {name!r} nor on PATH",
            hints=[f"provision run {name} python -c 'import torch'"],
            code="no-command",
        )
    if observe:
        from provisioner.diagnosing.memory import observed

        changed |= observed.variables(changed)
    sys.stdout.flush()
    try:
        os.execve(program, argv, changed)
    except OSError as error:
        raise UsageError(
            f"{program} cannot be run: {error.strerror}",
            why="a script without a first line `#!…` is no program" if error.errno == errno.ENOEXEC else None,
            hints=[f"name what runs it: provision run {name} bash {shlex.quote(words[0])}"],
            code="no-command",
        ) from error
