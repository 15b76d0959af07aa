"""The options that commands share, as decorators: how to speak, and which machine and versions are meant."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import click

from provisioner import progress
from provisioner.cli.console import Output

F = TypeVar("F", bound=Callable[..., Any])


def speaking(function: F) -> F:
    """Add ``--json --quiet -v --offline --no-color --yes``; the command gets ``output: Output``, ``offline`` and ``yes``."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, all else on stderr.")
    @click.option("--quiet", "-q", is_flag=True, help="No progress and no notes.")
    @click.option("-v", "--verbose", count=True, help="Also say which programs ran and what was fetched.")
    @click.option("--offline", is_flag=True, help="Use no network.")
    @click.option("--no-color", is_flag=True, help="No colours (NO_COLOR does the same).")
    @click.option("--yes", "-y", is_flag=True, help="Answer every question with yes.")
    @functools.wraps(function)
    def wrapper(
        *args: Any, as_json: bool, quiet: bool, verbose: int, offline: bool, no_color: bool, yes: bool, **kwargs: Any
    ) -> Any:
        color = not (no_color or os.environ.get("NO_COLOR"))
        output = Output(as_json, quiet, verbose, color)
        if verbose:
            progress.detailed.set(_say_detail)
        with _offline() if offline else nullcontext():
            return function(*args, output=output, offline=offline, yes=yes, **kwargs)

    return wrapper  # type: ignore[return-value]


class _Python(click.Path):
    """An interpreter as people name it; see `existing_python`, and `named_python` where the environment may be ``broken``."""

    def __init__(self, broken: bool) -> None:
        super().__init__(path_type=Path)
        self._broken = broken

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from provisioner.machine.interpreter import existing_python, named_python

        return named_python(Path(value)) if self._broken else existing_python(Path(value))


def python_option(whose: str, *, broken: bool = False) -> Callable[[F], F]:
    """Return the option ``--python``: a path, a command on PATH or an environment's folder; ``whose`` says which one is meant.

    The command gets an absolute path, of a program that is there unless the environment may be ``broken``.
    """
    text = f"{whose}: its path, a command, or the environment's folder."
    return click.option("--python", "python", type=_Python(broken), metavar="PATH", help=text)


interpreter_option = python_option("The interpreter whose packages to look at")


def _say_detail(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def environments_beginning(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of environments that begin so, for the shell's completion."""
    from provisioner import paths

    folder = paths.envs_dir()
    names = sorted(link.name for link in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name.startswith(incomplete) and not name.startswith(".")]


@contextmanager
def _offline() -> Iterator[None]:
    """Forbid the network while the block runs; a command that needs none never loads what fetches."""
    from provisioner import download

    token = download.offline.set(True)
    try:
        yield
    finally:
        download.offline.reset(token)
