"""The options that commands share, as decorators: how to speak, and which machine and versions are meant."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, TypeVar

import click

from provisioner.cli.console import Output

F = TypeVar("F", bound=Callable[..., Any])


def speaking(function: F) -> F:
    """Add ``--json --quiet -v --offline --no-color --yes``; the command gets ``output: Output``, ``offline`` and ``yes``."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, all else on stderr.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
    @click.option("-v", "--verbose", count=True, help="Say more.")
    @click.option("--offline", is_flag=True, help="Use no network.")
    @click.option("--no-color", is_flag=True, help="No colours (NO_COLOR does the same).")
    @click.option("--yes", "-y", is_flag=True, help="Answer every question with yes.")
    @functools.wraps(function)
    def wrapper(
        *args: Any, as_json: bool, quiet: bool, verbose: int, offline: bool, no_color: bool, yes: bool, **kwargs: Any
    ) -> Any:
        color = not (no_color or os.environ.get("NO_COLOR"))
        output = Output(as_json, quiet, verbose, color)
        with _offline() if offline else nullcontext():
            return function(*args, output=output, offline=offline, yes=yes, **kwargs)

    return wrapper  # type: ignore[return-value]


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid the network while the block runs; a command that needs none never loads what fetches."""
    from provisioner import download

    token = download.offline.set(True)
    try:
        yield
    finally:
        download.offline.reset(token)
