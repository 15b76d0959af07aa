"""Runs one stage in the environment's own Python and brings back what it reported, however it ended."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provisioner import paths, process
from provisioner.verifying.expectation import Expectation

CHILD = Path(__file__).resolve().parent / "child" / "__main__.py"

DROPPED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
"""Variables that would bring another interpreter's packages in, for the child's own children too."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "PYTHONNOUSERSITE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Nothing is downloaded to verify: a model hub that does not answer must not look like a broken environment."""

KEPT = 64 * 1024
"""Bytes kept of the beginning and of the end of what a child printed or left as stacks."""

_FRAME = re.compile(r'^  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>.+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Job:
    """What a child has to do. ``skip`` are modules already tried, or attentions that failed already; ``lengths`` replace the sequence lengths of the speed runs."""

    stage: str
    mode: str
    device: str
    expect: Expectation
    check_seconds: float
    skip: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    lengths: tuple[int, ...] = ()
    speed: bool = True


@dataclass(frozen=True, slots=True)
class ChildRun:
    """A child that ended: its events in order, the stacks it left when it was stopped or crashed, and what it printed."""

    stage: str
    result: process.Result
    events: tuple[dict[str, Any], ...]
    dump: str
    said: str

    def last(self, event: str) -> dict[str, Any]:
        """Return the last event of a kind, empty when there was none."""
        return next((item for item in reversed(self.events) if item["event"] == event), {})

    @property
    def finished(self) -> bool:
        """True when the child came to its end by itself."""
        return bool(self.last("finished"))

    @property
    def loading(self) -> float:
        """Seconds until the stage began: the start of Python, torch's import, the driver; all of them when it never did."""
        return float(self.last("loaded").get("seconds", self.result.seconds))

    @property
    def running(self) -> dict[str, Any] | None:
        """The check that had begun and did not end."""
        done = {event["name"] for event in self.events if event["event"] == "end"}
        begun = [event for event in self.events if event["event"] == "begin" and event["name"] not in done]
        return begun[-1] if begun else None

    @property
    def place(self) -> str | None:
        """The innermost frame of the main thread's last stack, ``file:line in function``, and what of the check led there.

        The dump prints the most recent call first and the main thread last. A kernel that never ends is waited for in torch, whose
        frame says nothing of whose kernel it is: the child's own function (``forward``, ``backward``) does.
        """
        frames = list(_FRAME.finditer(self.dump.rpartition("most recent call first")[2]))
        if not frames:
            return None
        own = next((frame for frame in frames if Path(frame["file"]).parent == CHILD.parent), frames[0])
        led = "" if own is frames[0] else f", from {own['name']}"
        return f"{frames[0]['file']}:{frames[0]['line']} in {frames[0]['name']}{led}"


def run_child(
    python: Path,
    job: Job,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    on_check: Callable[[str], None] | None = None,
) -> ChildRun:
    """Carry out ``job`` with ``python`` within ``timeout`` seconds. Never raises for what the child does, and leaves none of its own running.

    ``environment`` is added to this process's; ``on_check`` hears the name of each check as it starts.
    """
    with paths.scratch_dir("verify") as work:
        (work / "job.json").write_text(json.dumps({**asdict(job), "started": time.time()}))
        result = process.run(
            [python, "-I", CHILD, work],
            timeout=timeout,
            cwd=work,
            env=child_environment(python, work, environment or {}),
            on_line=_listener(on_check),
            end_group=True,
        )
        return ChildRun(job.stage, result, _events(work), _ends(work / "dump.txt"), _ends(work / "said.txt"))


def child_environment(python: Path, work: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a child: this process's, the environment's programs first on PATH, no network, caches of its own."""
    base = {name: value for name, value in os.environ.items() if name not in DROPPED}
    path = os.pathsep.join([str(python.parent), base.get("PATH", os.defpath)])
    return {**base, "PATH": path, **OFFLINE, "UNSLOTH_COMPILE_LOCATION": str(work / "unsloth"), **extra}


def _listener(on_check: Callable[[str], None] | None) -> Callable[[str], None] | None:
    if on_check is None:
        return None

    def hear(line: str) -> None:
        if line.startswith("@check "):
            on_check(line.removeprefix("@check "))

    return hear


def _events(work: Path) -> tuple[dict[str, Any], ...]:
    return tuple(_whole_lines(_text(work / "events.jsonl").split("\n")))


def _whole_lines(lines: Sequence[str]) -> list[dict[str, Any]]:
    events = []
    for line in lines:
        with suppress(ValueError):  # a line cut by the end of the process
            events.append(json.loads(line))
    return events


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _ends(path: Path) -> str:
    """Return a file's text without its middle, where it is long: a library may print for as long as it runs."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            first = file.read(KEPT)
            file.seek(max(file.tell(), size - KEPT))
            return (first + file.read(KEPT)).decode("utf-8", "replace")
    except OSError:
        return ""
