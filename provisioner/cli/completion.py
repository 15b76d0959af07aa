"""``provision completion``: code for the shell, after which Tab completes commands, options and environments' names."""

from __future__ import annotations

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_PROVISION_COMPLETE"
"""The variable by which the shell's function asks ``provision`` itself; click derives the same name from the program's."""


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@speaking
def command(shell: str | None, output: Output, offline: bool, yes: bool) -> None:
    """Print code that completes commands, options and names in SHELL (told from $SHELL by default).

    bash and zsh: eval "$(provision completion bash)" in ~/.bashrc or ~/.zshrc. fish: provision completion fish | source.
    """
    code = script(shell or _own_shell())
    if output.as_json:
        output.document(shell=shell or _own_shell(), script=code)
    else:
        output.say(code.rstrip("\n"))


def script(shell: str) -> str:
    """Return the completion code of ``shell``, which is one of `SHELLS`. bash must be 4.4 or newer (click's requirement)."""
    from click.shell_completion import ShellComplete, get_completion_class

    from provisioner.cli.app import provision

    kind = get_completion_class(shell)
    assert kind is not None, f"click completes in {SHELLS}"
    return ShellComplete.source(kind(provision, {}, "provision", VARIABLE))  # bash's own `source` runs bash to learn its version


def _own_shell() -> str:
    import os
    from pathlib import Path

    from provisioner.errors import UsageError

    name = Path(os.environ.get("SHELL", "")).name
    if name in SHELLS:
        return name
    raise UsageError(
        f"nothing is known to complete in {name or 'a shell that $SHELL does not name'}",
        hints=[f"name the shell: provision completion {known}" for known in SHELLS],
        code="unknown-shell",
    )
