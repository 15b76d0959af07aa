"""The one place that runs programs: an argument list, a time limit, and a value for whatever happened.

A missing program, a hang or a non-zero exit is a `Result`, never an exception, so that callers judge it.
"""

from __future__ import annotations

import os
import selectors
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from provisioner import progress

OUTPUT_LIMIT = 16 * 1024 * 1024
"""Bytes kept of each output stream; a program that prints more keeps running, the rest is dropped."""

LINE_LIMIT = 64 * 1024
"""Bytes of a line that ``on_line`` hears."""

GRACE_SECONDS = 3.0
"""How long a program may take to end after SIGTERM before it is killed."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished, failed, missing or stopped program left behind. ``code`` is None if it never started."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    seconds: float
    timed_out: bool = False

    @property
    def ok(self) -> bool:
        """True when the program ran to its end and exited 0."""
        return self.code == 0 and not self.timed_out

    @property
    def last_line(self) -> str:
        """The last line of its output, where an interpreter's answer stands: ``.pth`` files and sitecustomize may print before it."""
        return (self.out.strip().splitlines() or [""])[-1]

    @property
    def command(self) -> str:
        """The command line as one would type it."""
        return shlex.join(self.argv)


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input_text: str | None = None,
    on_line: Callable[[str], None] | None = None,
    end_group: bool = False,
) -> Result:
    """Run ``argv`` to its end or for ``timeout`` seconds and return the `Result`.

    ``env`` replaces the environment entirely. ``on_line`` gets each line of stderr and stdout as it appears.
    On a timeout or any exception (an interrupt too) the program's whole process group is asked to end, then the program killed; with ``end_group``
    whatever is left in its group is killed, also where the program ended by itself.
    """
    words = tuple(os.fspath(word) for word in argv)
    started = time.monotonic()
    try:
        child = subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdin=subprocess.PIPE if input_text is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        progress.detail(f"did not start: {shlex.join(words)}: {error}")
        return Result(words, None, "", str(error), time.monotonic() - started)
    with _ended(child, end_group):
        streams, timed_out = _collect(child, input_text, started + timeout, on_line)
    out, err = (stream.decode("utf-8", "replace") for stream in streams)
    seconds = time.monotonic() - started
    ended = "stopped at its time limit" if timed_out else f"exit {child.returncode}"
    progress.detail(f"ran ({seconds:.1f} s, {ended}): {shlex.join(words)}")
    return Result(words, child.returncode, out, err, seconds, timed_out)


@contextmanager
def _ended(child: subprocess.Popen[bytes], end_group: bool) -> Iterator[None]:
    try:
        yield
    finally:
        if child.poll() is None:
            stop(child)
        if end_group:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


def stop(child: subprocess.Popen[bytes]) -> None:
    """End ``child`` and its process group: SIGTERM, then SIGKILL after `GRACE_SECONDS`."""
    for signum, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signum)
        with suppress(subprocess.TimeoutExpired):
            child.wait(patience)
            return


def _collect(
    child: subprocess.Popen[bytes], input_text: str | None, deadline: float, on_line: Callable[[str], None] | None
) -> tuple[tuple[bytes, bytes], bool]:
    """Read both streams until they close, the program ends, or the deadline passes (then True is returned)."""
    assert child.stdout is not None
    assert child.stderr is not None
    kept = {child.stdout: bytearray(), child.stderr: bytearray()}
    partial = {child.stdout: b"", child.stderr: b""}
    timed_out = False
    with selectors.DefaultSelector() as selector:
        for stream in kept:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        if child.stdin is not None:
            with suppress(BrokenPipeError):
                child.stdin.write((input_text or "").encode())
                child.stdin.close()
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                timed_out = True
                break
            for key, _ in selector.select(min(left, 0.5)):
                stream = key.fileobj  # type: ignore[assignment]
                block = stream.read(65536)
                if not block:
                    selector.unregister(stream)
                    continue
                kept[stream] += block[: max(0, OUTPUT_LIMIT - len(kept[stream]))]
                if on_line is not None:
                    *lines, rest = (partial[stream] + block).split(b"\n")
                    partial[stream] = rest[:LINE_LIMIT]
                    for line in lines:
                        on_line(line.decode("utf-8", "replace"))
            if child.poll() is not None and not selector.select(0):
                break
    if not timed_out:
        try:
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            timed_out = True
    if timed_out:
        stop(child)
    return (bytes(kept[child.stdout]), bytes(kept[child.stderr])), timed_out
