"""Many files at once: fetched side by side through `provisioner.download`, told as one task, stopped together."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from provisioner import download, progress

T = TypeVar("T")

PARALLEL = 8
"""Transfers at the same time: enough that the line is busy while single servers are asked and answer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One file: where it is, where it goes, and what it must be (size in bytes, None where unknown)."""

    url: str
    target: Path
    sha256: str
    size: int | None = None


def fetch_all(files: Sequence[Wanted], *, label: str, total: int | None = None, workers: int = PARALLEL) -> None:
    """Fetch every file as `download.fetch` does; those that are there with the right sha256 are kept. ``total`` is in bytes.

    The first failure, or an interrupt, stops all transfers; what arrived stays for the next call. Raises what `download.fetch` raises.
    """
    stopping = threading.Event()
    with progress.task(label, total=total, unit="B") as overall:
        together = _Together(overall, stopping)

        def bring(file: Wanted) -> None:
            progress.reporter.set(together)
            together.check()
            download.fetch(file.url, file.target, sha256=file.sha256, size=file.size)
            together.finished(file)

        side_by_side(bring, files, workers=workers, stop=stopping.set)


def side_by_side(
    function: Callable[[T], None], items: Iterable[T], *, workers: int = PARALLEL, stop: Callable[[], None] = lambda: None
) -> None:
    """Call ``function`` for every item in threads that see this thread's context, and raise the first error.

    On an error or an interrupt ``stop`` is called, and what has not begun does not begin.
    """
    pool = ThreadPoolExecutor(workers)
    stopped = threading.Event()
    errors: list[BaseException] = []

    def end() -> None:
        stopped.set()
        stop()

    def work(item: T) -> None:
        if stopped.is_set():
            return
        try:
            function(item)
        except BaseException as error:
            errors.append(error)  # before the others are told to stop, which is an error of theirs
            end()

    try:
        futures = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
        wait(futures)
        if errors:
            raise errors[0]
    except BaseException:
        end()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Stopped(Exception):
    """Another transfer failed, or the user interrupted."""


class _Together:
    """The reporter of the threads: every transfer counts towards one task, and ends when told to."""

    def __init__(self, overall: progress.Task, stopping: threading.Event) -> None:
        self._overall, self._stopping, self._lock = overall, stopping, threading.Lock()
        self._listener = progress.reporter.get()
        self._counted: dict[str, float] = {}

    def check(self) -> None:
        """Raise when the transfers are to stop."""
        if self._stopping.is_set():
            raise _Stopped

    def start(self, label: str, total: float | None, unit: str) -> progress.Task:
        return _Share(self, label)

    def finish(self, task: progress.Task, *, failed: bool) -> None: ...

    def note(self, text: str) -> None:
        self._listener.note(text)

    def count(self, label: str, amount: float) -> None:
        """Add bytes of one transfer to the whole."""
        self.check()
        with self._lock:
            self._counted[label] = self._counted.get(label, 0) + amount
            self._overall.advance(amount, detail=label)

    def restart(self, label: str) -> None:
        """A transfer begins (again): what was counted of it is counted anew."""
        with self._lock:
            self._overall.advance(-self._counted.pop(label, 0))

    def finished(self, file: Wanted) -> None:
        """Count the whole file, also when it was there already."""
        self.restart(file.target.name)
        self.count(file.target.name, file.target.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Share:
    """One transfer's part in the whole."""

    together: _Together
    label: str

    def advance(self, amount: float = 1, *, detail: str | None = None) -> None:
        self.together.count(self.label, amount)

    def set_total(self, total: float) -> None:
        self.together.check()
        self.together.restart(self.label)
