"""Run the graph: ninja does the compiling, this module keeps the memory budget and tries again with fewer jobs.

Why ninja and not a scheduler of our own: what is done, what is left and in which order is its trade (its log survives a kill
at any moment), and ``-j`` with one pool bounds the sum of peaks by construction (`schedule`). What it cannot know is a unit that
takes more than it was measured to. A watcher ends the youngest unit as soon as the running ones hold more than the budget
while others are needed, or the machine runs dry; ninja stops, and the build goes on with fewer jobs.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from provisioner import process, progress
from provisioner.building import ccache, memory
from provisioner.building.graph import Unit
from provisioner.building.schedule import Jobs, wall_seconds
from provisioner.errors import BuildFailed, says_full

if TYPE_CHECKING:
    import psutil

MARK = "PROVISION_BUILD_DIR"
"""Set for every compiler of a build to its directory."""

STATUS = "@@%f/%t "
_STATUS_LINE = re.compile(r"@@\d+/\d+ (\S+)")
_FAILED_LINE = re.compile(r"FAILED: (?:\[code=\d+\] )?(?:obj|out)/(\S+?)(?:\.o)?\s*$")
_OUT_OF_MEMORY = re.compile(
    r"signal 9|\bKilled\b|Kill signal|bad_alloc|[Oo]ut of memory|Cannot allocate memory|virtual memory exhausted|code=137"
)
_STRAY = re.compile(
    r"NVCC_\w+|NINJA_STATUS|CPATH|\w+_INCLUDE_PATH|LD_RUN_PATH|LIBRARY_PATH|COMPILER_PATH|GCC_EXEC_PREFIX|GCC_COMPARE_DEBUG"
)
"""Variables that nvcc, ninja, gcc and ld obey ("Environment Variables Affecting GCC": CPATH counts before every ``-isystem``; ld(1): LD_RUN_PATH
becomes the library's RUNPATH). The build key knows nothing of them, and the modules of computing centres set CPATH to another CUDA's headers."""

BUILD_SECONDS = 72 * 3600.0
WATCH_SECONDS = 0.5
CRITICAL_MIB = 256
"""Available memory below which the machine is about to stop answering."""

TRIES_ALONE = 3
"""How often a unit may be killed for memory while nothing else is compiled."""


@dataclass
class Outcome:
    """What running the graph took: units compiled in this run, the most memory held, retries with fewer jobs, CPU time."""

    compiled: list[str] = field(default_factory=list)
    peak_mib: int = 0
    retries: int = 0
    jobs: Jobs = field(default_factory=lambda: Jobs(1, 1))
    cpu_seconds: float = 0.0


def ninja_program() -> str:
    """Return the path of the ninja that was installed with this package."""
    import ninja

    return str(Path(ninja.BIN_DIR) / "ninja")


def run_graph(
    build: Path, units: Sequence[Unit], jobs: Jobs, *, budget: Callable[[], int], write_graph: Callable[[Jobs], None]
) -> Outcome:
    """Compile and link what is not done yet in ``build`` and return the `Outcome`.

    ``budget`` tells the MiB that the units may hold together, asked anew for each attempt; ``write_graph`` writes ``build.ninja``
    for other jobs. Raise `BuildFailed` for a compile error (with its first lines), a full disk, or a unit that is killed for
    memory again and again although it runs alone.
    """
    outcome = Outcome()
    clear_leftovers(build)
    alone = 0
    with progress.task("compiling flash-attn", total=round(sum(unit.cost.seconds for unit in units)), unit="s") as task:
        watch = _Watch(build, units, jobs, task, outcome)
        watch.count_present()
        while True:
            outcome.jobs = watch.jobs = jobs
            write_graph(jobs)
            before = _children_seconds()
            result = watch.run(budget())
            outcome.cpu_seconds = round(outcome.cpu_seconds + _children_seconds() - before, 1)
            if result.ok:
                return outcome
            failures = _failures(result.out)
            log = build / "build.log"
            log.write_text(result.out + result.err)
            if not (result.code in (-9, 137) or failures):
                raise BuildFailed(f"ninja stopped: {(result.err or result.out).strip()[-400:]}", hints=[f"see {log}"])
            _judge(failures, log)
            alone = alone + 1 if jobs.total == 1 else 0
            if alone >= TRIES_ALONE:
                raise _starved(failures, units)
            outcome.retries += 1
            jobs = jobs.fewer()
            names = ", ".join(sorted(failures)) or "a unit"
            progress.note(f"{names} ran out of memory; going on with {jobs.total} at once")


def _children_seconds() -> float:
    """Return the CPU time of all ended children of this process and theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clear_leftovers(build: Path) -> None:
    """End compilers that an interrupted build left running in ``build`` (the caller holds its lock), and remove their half files.

    They are known by a variable in their environment, so that nobody's shell in that directory is taken for one.
    """
    import psutil

    for candidate in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if candidate.pid != os.getpid() and candidate.environ().get(MARK) == str(build):
                candidate.kill()
                candidate.wait(5)
    for left in (*(build / "obj").glob("*"), *(build / "out").glob("*")):
        if left.suffix == ".part" or _was_never_written(left):
            left.unlink(missing_ok=True)
    shutil.rmtree(build / "tmp", ignore_errors=True)
    (build / "tmp").mkdir(parents=True)


def _was_never_written(path: Path) -> bool:
    """Say whether a file begins with zeros or not at all: a power loss leaves such ones, renamed and never written."""
    with path.open("rb") as file:
        return file.read(4) in (b"", b"\0\0\0\0")


def without_stray(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that compilers may see: what would change flags, headers or libraries behind the build key's back is left out."""
    return {name: value for name, value in environ.items() if not _STRAY.fullmatch(name)}


def _environment(build: Path) -> dict[str, str]:
    """Return the environment of the compilers: the user's, as far as it may be seen, and the build's own."""
    return {
        **without_stray(ccache.environment()),
        MARK: str(build),
        "NINJA_STATUS": STATUS,
        "TMPDIR": str(build / "tmp"),
        "LC_ALL": "C",
    }


class _Watch:
    """One build under way: counts finished units, tells the time left, and keeps the running ones within the budget."""

    def __init__(self, build: Path, units: Sequence[Unit], jobs: Jobs, task: progress.Task, outcome: Outcome) -> None:
        self.build, self.jobs, self.task, self.outcome = build, jobs, task, outcome
        self.left = {unit.name: unit for unit in units}
        self.total = len(self.left)
        self.candidate: str | None = None
        self.last_done = time.monotonic()

    def count_present(self) -> None:
        """Count the units that an earlier run finished."""
        for unit in list(self.left.values()):
            if (self.build / unit.object).exists():
                self.task.advance(self.left.pop(unit.name).cost.seconds)

    def run(self, budget_mib: int) -> process.Result:
        """Run ninja once, watched."""
        command = [ninja_program(), "-j", str(self.jobs.total)]
        with self._watching(budget_mib):
            result = process.run(
                command, timeout=BUILD_SECONDS, cwd=self.build, env=_environment(self.build), on_line=self._read_line
            )
        if self.candidate and result.ok:
            self._done(self.candidate)
        self.candidate = None
        return result

    def _read_line(self, line: str) -> None:
        """Take a unit as done when the line after its status line does not say that it failed."""
        if self.candidate and not line.startswith("FAILED"):
            self._done(self.candidate)
        match = _STATUS_LINE.match(line)
        self.candidate = match[1] if match else None

    def _done(self, name: str) -> None:
        self.outcome.compiled.append(name)
        self.last_done = time.monotonic()
        if unit := self.left.pop(name, None):
            self.task.advance(unit.cost.seconds, detail=self._detail(0))

    def _detail(self, held_mib: int) -> str:
        left = wall_seconds(tuple(self.left.values()), self.jobs) - (time.monotonic() - self.last_done)
        text = f"{self.total - len(self.left)}/{self.total} units, about {max(1, round(left / 60))} min left"
        return f"{text}, {held_mib / 1024:.1f} GiB" if held_mib else text

    @contextmanager
    def _watching(self, budget_mib: int) -> Iterator[None]:
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop, budget_mib), daemon=True, name="memory-watch")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _watch(self, stop: threading.Event, budget_mib: int) -> None:
        import psutil

        while not stop.wait(WATCH_SECONDS):
            with suppress(psutil.Error, OSError):
                running = _running_units(self.build)
                held = memory.resident_mib([member for tree in running for member in tree])
                self.outcome.peak_mib = max(self.outcome.peak_mib, held)
                self.task.advance(0, detail=self._detail(held))
                scarce = memory.read_capacity().available_mib < CRITICAL_MIB
                if running and (scarce or (held > budget_mib and len(running) > 1)):
                    _kill_tree(max(running, key=lambda tree: tree[0].create_time()))
                    stop.wait(2.0)


def _running_units(build: Path) -> list[list[psutil.Process]]:
    """Return, for each unit that ninja is compiling in ``build``, its processes, the topmost first (one look at the process table)."""
    import psutil

    family = psutil.Process().children(recursive=True)
    parents: dict[int, list[psutil.Process]] = {}
    runners = []
    for member in family:
        with suppress(psutil.Error):
            parents.setdefault(member.ppid(), []).append(member)
            if member.ppid() == os.getpid() and member.cwd() == str(build):
                runners.append(member)
    return [_tree(top, parents) for runner in runners for top in parents.get(runner.pid, [])]


def _tree(top: psutil.Process, parents: dict[int, list[psutil.Process]]) -> list[psutil.Process]:
    return [top, *(member for child in parents.get(top.pid, []) for member in _tree(child, parents))]


def _kill_tree(tree: list[psutil.Process]) -> None:
    import psutil

    for member in tree:
        with suppress(psutil.Error):
            member.kill()


def _failures(out: str) -> dict[str, str]:
    """Return each failed unit with what was printed about it."""
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in out.splitlines():
        if match := _FAILED_LINE.match(line):
            current = found.setdefault(match[1], [])
        elif _STATUS_LINE.match(line):
            current = None
        if current is not None:
            current.append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


def _judge(failures: dict[str, str], log: Path) -> None:
    """Raise `BuildFailed` unless every failure is a lack of memory."""
    for name, text in failures.items():
        if says_full(text):
            raise BuildFailed(
                f"the disk is full while compiling {name}",
                hints=[
                    f"free space under {log.parent}, or move the cache with PROVISION_CACHE_DIR; then run it again: it continues"
                ],
                code="disk-full",
            )
        if not _OUT_OF_MEMORY.search(text):
            lines = [line for line in text.splitlines() if re.search(r"\berror\b|fatal|undefined reference", line)]
            shown = "\n    ".join(lines[:6] or text.splitlines()[-6:])
            raise BuildFailed(
                f"{name} does not compile:\n    {shown}", hints=[f"the whole output is in {log}"], code="compile-error"
            )


def _starved(failures: dict[str, str], units: Sequence[Unit]) -> BuildFailed:
    name = next(iter(failures), "a unit")
    need = max((unit.cost.peak_mib for unit in units if unit.name in failures), default=0)
    return BuildFailed(
        f"{name} was killed for memory {TRIES_ALONE} times although it ran alone",
        why=f"it takes about {need / 1024:.1f} GiB" if need else None,
        hints=["free memory, add swap, or raise the memory limit of this container", "compile fewer features: --kernels unsloth"],
        code="out-of-memory",
    )
