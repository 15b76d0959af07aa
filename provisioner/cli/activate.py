"""``provision activate``: code for the shell to evaluate."""

from __future__ import annotations

import os
from pathlib import Path

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, speaking


@click.command("activate")
@click.argument("name", shell_complete=environments_beginning)
@click.option("--shell", metavar="SHELL", help="bash, zsh, sh, fish or csh; told from $SHELL by default.")
@speaking
def command(name: str, shell: str | None, output: Output, offline: bool, yes: bool) -> None:
    """Print code that activates NAME: use it as `eval "$(provision activate NAME)"`."""
    from provisioner.environments import activation, store
    from provisioner.environments.names import check_name

    environment = store.find(check_name(name))
    code = activation.script(environment, shell or _own_shell())
    if output.as_json:
        output.document(name=name, prefix=str(environment.prefix), script=code)
    else:
        output.say(code.rstrip("\n"))


def _own_shell() -> str:
    from provisioner.environments.activation import SHELLS

    name = Path(os.environ.get("SHELL", "sh")).name
    return {"tcsh": "csh", "dash": "sh"}.get(name, name if name in SHELLS else "sh")
