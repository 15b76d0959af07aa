"""The command line: the only place that prints. One module per command, imported when its command runs."""

from __future__ import annotations

from provisioner.cli.app import main

__all__ = ["main"]
