from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from provisioner import download, progress
from provisioner.errors import IntegrityError
from provisioner.parallel_downloads import Wanted, fetch_all, side_by_side
from tests.servers import serve


class Counting:
    """A reporter that adds up what it is told."""

    def __init__(self) -> None:
        self.done, self.total = 0.0, 0.0

    def start(self, label: str, total: float | None, unit: str) -> Counting:
        self.total = total or 0
        return self

    def finish(self, task: progress.Task, *, failed: bool) -> None: ...

    def note(self, text: str) -> None: ...

    def advance(self, amount: float = 1, *, detail: str | None = None) -> None:
        self.done += amount

    def set_total(self, total: float) -> None: ...


def wanted(root: Path, url: str, target: Path, *, sha256: str | None = None) -> list[Wanted]:
    return [
        Wanted(f"{url}/{path.name}", target / path.name, sha256 or download.file_sha256(path), path.stat().st_size)
        for path in sorted(root.iterdir())
    ]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    for number in range(6):
        (folder / f"file{number}").write_bytes(bytes([number]) * (100_000 + number))
    return folder


@pytest.mark.integration
def test_all_bytes_are_counted_once_even_if_a_transfer_breaks_off_or_a_file_is_there(root: Path, tmp_path: Path) -> None:
    counting, total = Counting(), sum(path.stat().st_size for path in root.iterdir())
    token = progress.reporter.set(counting)
    try:
        with serve(root) as server:
            server.broken_after = 50_000
            files = wanted(root, server.url, tmp_path / "to")
            (tmp_path / "to").mkdir()
            (tmp_path / "to/file5").write_bytes((root / "file5").read_bytes())
            fetch_all(files, label="fetching", total=total)
    finally:
        progress.reporter.reset(token)
    assert (counting.done, counting.total) == (total, total)
    assert {path.name: path.read_bytes() for path in (tmp_path / "to").iterdir()} == {
        path.name: path.read_bytes() for path in root.iterdir()
    }


@pytest.mark.integration
def test_the_first_wrong_file_stops_the_rest(root: Path, tmp_path: Path) -> None:
    with serve(root) as server, pytest.raises(IntegrityError):
        fetch_all(wanted(root, server.url, tmp_path / "to", sha256="0" * 64), label="fetching", workers=1)
    assert len(server.requests) == 1


def test_threads_see_the_callers_context_and_run_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=10)
    seen = []

    def work(number: int) -> None:
        meeting.wait()
        seen.append(download.offline.get())

    token = download.offline.set(True)
    try:
        side_by_side(work, range(2))
    finally:
        download.offline.reset(token)
    assert seen == [True, True]


def test_an_error_is_raised_and_what_has_not_begun_does_not_begin() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        side_by_side(work, range(100), workers=1)
    assert begun == [0]


def test_the_error_that_came_first_is_raised_and_not_that_of_another_which_was_stopped_for_it() -> None:
    stopping, begun = threading.Event(), threading.Barrier(3)

    def work(item: int) -> None:
        begun.wait(10)
        if item == 0:
            raise IntegrityError("another file")
        stopping.wait(10)
        raise RuntimeError("stopped")

    def stop() -> None:
        stopping.set()
        time.sleep(0.2)  # the others end first

    with pytest.raises(IntegrityError, match="another file"):
        side_by_side(work, range(3), workers=3, stop=stop)
