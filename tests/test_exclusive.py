"""One process works, the others wait and say so, or are told at once that it is busy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioner import progress
from provisioner.errors import Busy
from provisioner.exclusive import exclusive

HOLDER = """
import sys, time
from pathlib import Path
from provisioner.exclusive import exclusive
with exclusive(Path(sys.argv[1]), "at it"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def _holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


class _Told:
    """A reporter that lets the holder go as soon as somebody says that it waits for it."""

    def __init__(self, holder: subprocess.Popen[str]) -> None:
        self.holder = holder
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)
        assert self.holder.stdin is not None
        self.holder.stdin.write("\n")
        self.holder.stdin.flush()


@pytest.mark.integration
def test_who_waits_says_so_and_goes_on_once_the_other_is_done(tmp_path: Path) -> None:
    lock = tmp_path / "a" / "b.lock"
    with _holder(lock) as process:
        told = _Told(process)
        token = progress.reporter.set(told)  # type: ignore[arg-type]  # only notes are given here
        try:
            with exclusive(lock, "building this wheel"):
                assert process.wait(timeout=10) == 0
        finally:
            progress.reporter.reset(token)
    assert told.notes == ["another provision is building this wheel: waiting for it"]


@pytest.mark.integration
@pytest.mark.parametrize(("wait", "why"), [(0, None), (0.2, "it is not done after 0 minutes")])
def test_who_may_not_wait_that_long_is_told_that_it_is_busy(wait: float, why: str | None, tmp_path: Path) -> None:
    lock = tmp_path / "b.lock"
    with _holder(lock), pytest.raises(Busy) as caught, exclusive(lock, "building", wait=wait):
        pass
    assert (caught.value.what, caught.value.why, caught.value.exit_code) == ("another provision is building", why, 8)


@pytest.mark.integration
def test_a_holder_that_is_killed_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / "b.lock"
    with _holder(lock) as process:
        process.kill()
        process.wait()
        with exclusive(lock, "building", wait=0):
            pass


def test_what_the_block_raises_lets_go_of_the_lock(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), exclusive(tmp_path / "b.lock", "building", wait=0):
            raise KeyError
