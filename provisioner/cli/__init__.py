"""The command line: the only place that prints. One module per command, imported when its command runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the command line as `provisioner.cli.app.main` does; an interrupt while modules are loaded ends quietly, too."""
    try:
        from provisioner.cli import app

        app.main(argv)
    except KeyboardInterrupt:
        import os

        os._exit(130)
