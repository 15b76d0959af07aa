"""``provision remove``: delete an environment with all its generations."""

from __future__ import annotations

import sys

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, speaking


@click.command("remove")
@click.argument("name", shell_complete=environments_beginning)
@speaking
def command(name: str, output: Output, offline: bool, yes: bool) -> None:
    """Remove the environment NAME; refused while a process runs from it."""
    from provisioner.environments import store
    from provisioner.environments.names import check_name
    from provisioner.errors import UsageError

    prefix = store.existing_link(check_name(name)).resolve()
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise UsageError(
                f"remove {name!r} needs an answer, and there is no terminal to ask", hints=[f"provision remove {name} --yes"]
            )
        if not click.confirm(f"delete {prefix}?", err=True):
            output.say(f"{name} is kept")
            return
    store.remove(name)
    if output.as_json:
        output.document(removed=name)
    elif not output.quiet:
        output.say(f"removed {name}")
