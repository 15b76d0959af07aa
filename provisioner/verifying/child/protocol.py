"""How the child speaks: one JSON object a line on a descriptor of its own, so that what is done survives a crash.

Each check is announced before it starts. A check that overruns its limit ends the process after the stacks of all threads
were written to ``dump.txt``; the watchdog is a C thread and works while a call holds the interpreter.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

SAID_LIMIT = 2048
"""Characters kept of what a check printed; a stub kernel prints one line per thread."""

STUB_TEXT = "requires building with sm version"
"""Part of what a flash-attn 2.x kernel prints when its body was compiled away (csrc/flash_attn/src, 2.8.3.post2)."""


class Ended(Exception):
    """The device or the build is unusable; whatever else was planned would tell nothing."""


class Reporter:
    """Writes the events of one child, times each check, and takes in what native code prints on stdout."""

    def __init__(self, work: Path, *, check_seconds: float) -> None:
        self._seconds = check_seconds
        self._events = os.open(work / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._dump = (work / "dump.txt").open("ab", buffering=0)
        faulthandler.enable(self._dump)
        faulthandler.register(signal.SIGTERM, self._dump, all_threads=True, chain=True)
        self._said = os.open(work / "said.txt", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        sys.stdout.flush()
        os.dup2(self._said, 1)

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event, in one system call; what of a text is no Unicode (bytes of a file name, say) becomes a question mark."""
        line = json.dumps({"event": event, **fields}, ensure_ascii=False) + "\n"
        os.write(self._events, line.encode("utf-8", "replace"))

    def check(
        self, name: str, call: str, body: Callable[[], dict[str, Any]], *, refused: str | None = None, refusal: str = "required"
    ) -> dict[str, Any]:
        """Run ``body`` under the time limit, report and return its outcome.

        ``call`` names the function that is tried; ``refused`` what is not claimed, where an error is ``required`` or ``allowed``.
        Raise `Ended` when a stub kernel spoke: its siblings are stubs too, and each would print for every thread.
        """
        self.emit("begin", name=name, call=call, refused=refused, refusal=refusal)
        print(f"@check {name}", file=sys.stderr, flush=True)
        started = time.monotonic()
        faulthandler.dump_traceback_later(self._seconds, exit=True, file=self._dump)
        try:
            outcome = {"status": "returned", **body()}
        except Exception as error:
            outcome = {"status": "raised", "type": type(error).__name__, "text": str(error), "where": _where(error)}
        finally:
            faulthandler.cancel_dump_traceback_later()
        said = self._take_said()
        self.emit("end", name=name, seconds=round(time.monotonic() - started, 4), said=said, **outcome)
        if STUB_TEXT in said:
            raise Ended("the kernels of this build are stubs")
        return outcome

    def skip(self, name: str, reason: str) -> None:
        """Report a check that does not apply."""
        self.emit("skip", name=name, detail=reason)

    def _take_said(self) -> str:
        with suppress(Exception):
            sys.stdout.flush()
            ctypes.CDLL(None).fflush(None)  # printf of a kernel goes through the C library's buffer
        text = os.pread(self._said, SAID_LIMIT, 0).decode("utf-8", "replace")
        os.ftruncate(self._said, 0)
        return text


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
