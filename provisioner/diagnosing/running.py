"""A running process, watched for some seconds: two Python stacks where it can be asked, the CPU time between, and the kernel's answers."""

from __future__ import annotations

import os
import re
import shutil
import time

from provisioner.diagnosing.child.waits import cpu_seconds, waiting
from provisioner.diagnosing.inventory import Attempt, Waits
from provisioner.errors import UsageError
from provisioner.process import run

SECONDS = 5.0
"""Between the two looks: long enough for a step of most trainings, or for the CPU time of a compile to show."""


def watch(pid: int, *, seconds: float = SECONDS) -> Attempt:
    """Return what process ``pid`` does: never disturbed beyond py-spy's or a debugger's short stop. Raise `UsageError` if it is gone."""
    from provisioner.codec import from_builtins

    if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110 - a number in a path, no object needed
        raise UsageError(
            f"there is no process {pid}",
            hints=["find it: nvidia-smi, or pgrep -af python", "in a container, look from inside it: numbers differ outside"],
            code="no-process",
        )
    earlier, before, started = python_stack(pid), cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    cpu = (cpu_seconds(pid) - before) / (time.monotonic() - started)
    stack = python_stack(pid)
    waits = from_builtins({**waiting(pid), "cpu": round(cpu, 2)}, Waits, what="waits")
    return Attempt("hang", seconds, stack=stack, earlier=earlier, waits=waits)


def python_stack(pid: int) -> str:
    """Return the Python stack of a process in faulthandler's form: from itself if it is observed, else by py-spy; else empty."""
    from provisioner.diagnosing.memory.devices import observing
    from provisioner.diagnosing.memory.observed import ask

    answer = ask(pid, observing(pid)[0])
    if answer is not None:
        parts = [
            f"Thread {thread.name} (most recent call first):\n"
            + "".join(f'  File "{file}", line {line} in {function}\n' for file, line, function in thread.frames)
            for thread in reversed(answer.threads)
        ]
        return "\n".join(parts)
    if shutil.which("py-spy"):
        return of_py_spy(run(["py-spy", "dump", "--pid", str(pid)], timeout=10).out)
    return ""


_SPIED = re.compile(r"^\s+(\S.*?) \((\S.*):(\d+)\)$", re.MULTILINE)


def of_py_spy(text: str) -> str:
    """Return py-spy's dump in faulthandler's form: its threads in reverse, since it prints the main one first."""
    threads = re.split(r"^Thread .*$", text, flags=re.MULTILINE)[1:]
    written = (
        "".join(f'  File "{file}", line {line} in {function}\n' for function, file, line in _SPIED.findall(thread))
        for thread in threads
    )
    return "\n".join(f"Thread (most recent call first):\n{frames}" for frames in reversed(list(written)))
