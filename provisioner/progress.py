"""How the silent library tells the command line what it is doing.

Library code calls `task` and `note`; by default nothing listens. The CLI installs a `Reporter` that draws.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Task(Protocol):
    """One thing under way: bytes to fetch, packages to install, units to compile."""

    def advance(self, amount: float = 1, *, detail: str | None = None) -> None:
        """Count ``amount`` more of the total as done."""

    def set_total(self, total: float) -> None:
        """Correct the total once it is known."""


class Reporter(Protocol):
    """The listening end: the command line's progress bars, a log, or nothing."""

    def start(self, label: str, total: float | None, unit: str) -> Task:
        """Begin to show a task."""

    def finish(self, task: Task, *, failed: bool) -> None:
        """The task has ended."""

    def note(self, text: str) -> None:
        """A sentence that the user should read, such as a fallback that was taken."""


class _Silent:
    def start(self, label: str, total: float | None, unit: str) -> Task:
        return self

    def finish(self, task: Task, *, failed: bool) -> None: ...

    def note(self, text: str) -> None: ...

    def advance(self, amount: float = 1, *, detail: str | None = None) -> None: ...

    def set_total(self, total: float) -> None: ...


reporter: ContextVar[Reporter] = ContextVar("reporter", default=_Silent())  # noqa: B039 - stateless


detailed: ContextVar[Callable[[str], None] | None] = ContextVar("detailed", default=None)
"""Where details go (``-v``); None: nowhere."""


@contextmanager
def task(label: str, *, total: float | None = None, unit: str = "") -> Iterator[Task]:
    """Report one task from its start to its end; ``unit`` is ``"B"`` for bytes, ``"s"`` for seconds of work, else a plural noun."""
    current = reporter.get()
    started = current.start(label, total, unit)
    try:
        yield started
    except BaseException:
        current.finish(started, failed=True)
        raise
    current.finish(started, failed=False)


def note(text: str) -> None:
    """Tell the user one sentence."""
    reporter.get().note(text)


_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def detail(text: str) -> None:
    """Tell what only somebody looking for a fault wants to know: a program that ran, a file that was fetched. Credentials are taken out."""
    if (say := detailed.get()) is not None:
        say(_PASSWORD.sub("…", text))
