"""Printing: text for people, one JSON document for programs, errors in both shapes, and progress on stderr."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from provisioner import progress
from provisioner.errors import ProvisionError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@dataclass(frozen=True, slots=True)
class Output:
    """How this run speaks: ``as_json`` puts one document on stdout and all else on stderr."""

    as_json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: bool = True

    def document(self, **parts: Any) -> None:
        """Print the JSON document ``{"schema": 1, **parts}`` on stdout."""
        from provisioner.codec import SCHEMA, to_json

        sys.stdout.write(to_json({"schema": SCHEMA, **parts}))

    def say(self, text: str = "") -> None:
        """Print text for people: on stdout, or on stderr when stdout carries a document."""
        print(text, file=sys.stderr if self.as_json else sys.stdout)

    def prose(self, line: str) -> None:
        """Print a line to be read, not to be typed or parsed: a terminal gets it folded between words, under its own text."""
        width = self.width()
        self.say(line if width is None else "\n".join(folded(line, width)))

    def width(self) -> int | None:
        """Return the columns of the terminal that `say` writes to, None where it is none."""
        return _columns(sys.stderr if self.as_json else sys.stdout)

    def console(self) -> Console:
        """A rich console on the stream of `say`, for tables."""
        from rich.console import Console

        console = Console(stderr=self.as_json, no_color=not self.color, highlight=False)
        if not console.is_terminal:  # a pipe has no width to fit into
            console.width = 500
        return console

    @contextmanager
    def progress(self) -> Iterator[None]:
        """Show the library's tasks and notes on stderr while the block runs; in a log, a line every `LOG_SECONDS` instead of bars.

        A polite end (SIGTERM, or SIGHUP of a connection that broke) unwinds like an interrupt meanwhile, so that whatever is half-made is
        removed; who ignores SIGHUP (``nohup``) keeps to that.
        """
        import signal

        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True, no_color=not self.color, highlight=False)
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[amount]}"),
            TimeElapsedColumn(),
            console=console,
            disable=self.quiet or not console.is_terminal,
            transient=True,
        )
        signal.signal(signal.SIGTERM, _interrupt)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, _interrupt)
        with bars:
            token = progress.reporter.set(_RichReporter(bars, quiet=self.quiet))
            try:
                yield
            finally:
                progress.reporter.reset(token)


def _columns(stream: TextIO) -> int | None:
    import shutil

    return shutil.get_terminal_size().columns if stream.isatty() else None


_LABEL = re.compile(r"\s*(?:\S+(?: \S+)?)?\s{2,}")


def folded(line: str, width: int) -> list[str]:
    """Return ``line`` as lines of at most ``width`` columns where words allow; what follows a label stays to its right."""
    import textwrap

    label = _LABEL.match(line)
    indent = " " * min(label.end() if label else 0, width // 2)
    return textwrap.wrap(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) or [""]


def _interrupt(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


LOG_SECONDS = 60.0
"""How often a task that takes long says in a log how far it is."""


class _RichTask:
    def __init__(self, bars: Progress, label: str, total: float | None, unit: str, *, logs: bool) -> None:
        self._bars, self._unit, self._logs, self.label = bars, unit, logs, label
        self._done, self._total = 0.0, total
        self._logged = time.monotonic()
        self.id = bars.add_task(label, total=total, amount="")

    def advance(self, amount: float = 1, *, detail: str | None = None) -> None:
        self._done += amount
        shown = f"{self._amount(self._done)}/{self._amount(self._total)}" if self._total else self._amount(self._done)
        text = f"{'' if self._unit == 's' else shown} {detail or ''}".strip()
        self._bars.update(self.id, completed=self._done, amount=text)
        if self._logs and time.monotonic() - self._logged >= LOG_SECONDS:
            self._logged = time.monotonic()
            print(f"{self.label}: {text}", file=sys.stderr, flush=True)

    def set_total(self, total: float) -> None:
        self._total = total
        self._bars.update(self.id, total=total)

    def _amount(self, value: float | None) -> str:
        if value is None:
            return "?"
        return f"{value / 2**20:.0f} MiB" if self._unit == "B" else f"{value:.0f}"


class _RichReporter:
    def __init__(self, bars: Progress, *, quiet: bool) -> None:
        self._bars, self._quiet = bars, quiet

    def start(self, label: str, total: float | None, unit: str) -> progress.Task:
        logs = not self._quiet and not self._bars.console.is_terminal
        if logs and unit != "B":
            print(f"{label} …", file=sys.stderr, flush=True)
        return _RichTask(self._bars, label, total, unit, logs=logs)

    def finish(self, task: progress.Task, *, failed: bool) -> None:
        assert isinstance(task, _RichTask)
        self._bars.remove_task(task.id)

    def note(self, text: str) -> None:
        if not self._quiet:
            self._bars.console.print(text, soft_wrap=True, markup=False)


def show_error(error: ProvisionError, *, as_json: bool, exit_code: int | None = None) -> None:
    """Print an error: what, why and what next on stderr; with ``--json`` also the document on stdout.

    On a terminal what and why are folded between words; what is to be typed next stays on its line.
    """
    if as_json:
        from provisioner.codec import SCHEMA, to_json

        stated = error.to_dict() if exit_code is None else {**error.to_dict(), "exit_code": exit_code}
        with suppress(OSError):  # a full disk or a reader that has left: stderr still tells
            sys.stdout.write(to_json({"schema": SCHEMA, "error": stated}))
    width = _columns(sys.stderr)
    lines = []
    for line in (f"error[{error.code}]: {error.what}", f"  why:  {error.why}" if error.why else None):
        if line is not None:
            lines += [line] if width is None or "\n" in line else folded(line, width)
    lines += [f"  next: {hint}" for hint in error.hints]
    print("\n".join(lines), file=sys.stderr)
