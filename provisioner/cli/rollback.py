"""``provision rollback``: go back to the generation before the last ``create --replace``."""

from __future__ import annotations

import click

from provisioner.cli.console import Output
from provisioner.cli.options import environments_beginning, speaking


@click.command("rollback")
@click.argument("name", shell_complete=environments_beginning)
@speaking
def command(name: str, output: Output, offline: bool, yes: bool) -> None:
    """Point NAME at its previous generation again; running processes keep the one they use."""
    from provisioner.environments import store
    from provisioner.environments.names import check_name

    environment = store.rollback(check_name(name))
    if output.as_json:
        output.document(name=name, prefix=str(environment.prefix))
    elif not output.quiet:
        output.say(f"{name} is now {environment.prefix} (made {environment.manifest.created_at})")
