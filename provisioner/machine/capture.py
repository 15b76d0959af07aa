"""Captured machines: a folder with everything that the probes asked and were told, which replays through the same code.

DIRECTORY/
  root/           the files that were read, at their own paths, with the links between them
  programs.json   the programs that were run: argument list, exit code, output by lines
  system.json     environment variables, what system calls said, the interpreter asked about
  nvml.json       NVML's raw answers
  machine.json    the facts that came of it
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from provisioner import __version__, codec, paths
from provisioner.errors import UsageError
from provisioner.machine.facts import Machine
from provisioner.machine.nvml import LIBRARY_NOT_FOUND, NvmlReading
from provisioner.machine.probe import probe_system
from provisioner.machine.redact import identity_of_this_host, redactor
from provisioner.machine.system import Files, Kernel, LiveSystem
from provisioner.process import Result

FACTS, SYSTEM, PROGRAMS, NVML, ROOT, ORIGIN = "machine.json", "system.json", "programs.json", "nvml.json", "root", "origin"
EMPTY_DIRECTORY = ".empty"

T = TypeVar("T")

KEPT_VARIABLES = (
    *("PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "HOME", "CXX", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_EXE", "MAMBA_EXE", "MAMBA_ROOT_PREFIX", "PYENV_ROOT", "PYENV_VERSION"),
    *("container", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER", "KUBERNETES_SERVICE_HOST"),
)
"""The environment variables that facts depend on; no other one leaves the machine."""
MOUNTS = "/proc/self/mountinfo"
"""Kept without the lines about file systems: those name servers and people."""

PRESENCE_ALONE = frozenset({"KUBERNETES_SERVICE_HOST", "APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"})
"""Of these only that they are set matters."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program that was run. ``out`` and ``err`` are lines: joined by newlines they are the output."""

    argv: tuple[str, ...]
    code: int | None = None
    out: tuple[str, ...] = ()
    err: tuple[str, ...] = ()
    timed_out: bool = False

    def result(self) -> Result:
        """Return it as the result of a run."""
        return Result(self.argv, self.code, "\n".join(self.out), "\n".join(self.err), 0.0, self.timed_out)


@dataclass(frozen=True, slots=True)
class Calls:
    """The content of ``system.json``."""

    kernel: Kernel = field(default_factory=Kernel)
    environ: dict[str, str] = field(default_factory=dict)
    python: str | None = None


class ReplaySystem(Files):
    """A captured machine."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / ROOT)
        self._calls: Calls = _read(directory / SYSTEM, Calls, Calls())
        self._nvml: NvmlReading = _read(directory / NVML, NvmlReading, NvmlReading(error=LIBRARY_NOT_FOUND))
        programs: tuple[Program, ...] = _read(directory / PROGRAMS, tuple[Program, ...], ())
        self._programs = {program.argv: program for program in programs}
        self.environ: Mapping[str, str] = self._calls.environ
        self.python = self._calls.python

    def kernel(self) -> Kernel:
        return self._calls.kernel

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        program = self._programs.get(tuple(argv))
        return program.result() if program else Result(tuple(argv), None, "", "not captured", 0.0)

    def nvml(self) -> NvmlReading:
        return self._nvml


def _read(path: Path, kind: Any, default: Any) -> Any:
    return codec.read_json(path, kind) if path.exists() else default


def replay(directory: Path) -> Machine:
    """Return the facts that the probes find in a captured machine. Raise `UsageError` when its files are malformed."""
    system = ReplaySystem(directory)
    return probe_system(system, python=system.python)


def read_machine(path: Path) -> Machine:
    """Return the Machine in ``path``: a capture folder, a Machine as JSON, or a document with a ``machine`` key.

    Raise `UsageError` when it is none of these.
    """
    if path.is_dir():
        if (path / FACTS).is_file():
            return read_machine(path / FACTS)
        if (path / ROOT).is_dir() or (path / SYSTEM).is_file():
            return replay(path)
        raise UsageError(
            f"{path} holds no captured machine",
            hints=["`provision capture DIR` on the machine in question makes one"],
            code="bad-document",
        )
    document = codec.read_json(path, dict[str, Any])
    inner = document.get("machine", document)
    return codec.from_builtins(_without_null(inner), Machine, what=f"the machine in {path}")


def _without_null(value: Any) -> Any:
    """Leave null list and object fields to their defaults; programs that write such documents differ in this."""
    return {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value


class _Recorder(LiveSystem):
    """This host, and a record of all that it answered. Only what was found is kept: the rest is absent in the copy too."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.matches: dict[str, list[str]] = {}
        self.links: dict[str, str] = {}
        self.directories: set[str] = set()
        self.programs: list[Program] = []
        self.reading: NvmlReading | None = None

    def read(self, path: str) -> str | None:
        text = super().read(path)
        if text is not None and path == MOUNTS:
            text = "".join(line for line in text.splitlines(keepends=True) if " - cgroup" in line)
        if text is not None:
            self.texts[self._note(path)] = text
        return text

    def exists(self, path: str) -> bool:
        found = super().exists(path)
        if found:
            self._note(path)
        return found

    def glob(self, directory: str, pattern: str) -> tuple[str, ...]:
        found = super().glob(directory, pattern)
        for path in found:
            self._note(path)
        return found

    def realpath(self, path: str) -> str:
        real = super().realpath(path)
        if super().exists(path):
            self._note(path)
        return real

    def search(self, path: str, pattern: bytes) -> str | None:
        match = self._match(path, pattern)
        if match is None:
            return None
        self.matches[self._note(path)].append(match[0].replace(b"\0", b"\n").decode("latin-1"))
        return match[1].decode("latin-1")

    def run(self, argv: Sequence[str], *, timeout: float) -> Result:
        result = super().run(argv, timeout=timeout)
        out, err = tuple(result.out.split("\n")), tuple(result.err.split("\n"))
        self.programs.append(Program(result.argv, result.code, out, err, result.timed_out))
        return result

    def nvml(self) -> NvmlReading:
        self.reading = super().nvml()
        return self.reading

    def files(self) -> dict[str, str]:
        """Return the content to keep of each file: all that was read, or what was found in it."""
        return {path: self.texts.get(path, "\n".join(found)) for path, found in self.matches.items()}

    def _note(self, path: str) -> str:
        """Note a path that exists, with the links on the way to it, and return its real path."""
        real = self._note_links(path)
        if os.path.isdir(real):
            self.directories.add(real)
        else:
            self.matches.setdefault(real, [])
        return real

    def _note_links(self, path: str) -> str:
        """Return the real path, and keep each link on the way as one straight to its real target."""
        if path.startswith("/proc/self/"):
            return path
        here = "/"
        for name in path.strip("/").split("/"):
            step = os.path.join(here, name)
            here = os.path.realpath(step)
            if here != step and os.path.islink(step):
                self.links[step] = here
        return here


def write_capture(directory: Path, *, python: Path | None = None) -> Machine:
    """Write this machine to ``directory`` (made if need be, emptied of an older capture never) and return its facts.

    Serials, UUIDs, and the user's and host's names are taken out; the facts returned are those of the redacted copy.
    Raise `UsageError` when the folder holds anything already.
    """
    if directory.exists() and any(directory.iterdir()):
        raise UsageError(f"{directory} is not empty", hints=["choose a new directory, or remove what is there"], code="not-empty")
    recorder = _Recorder()
    probe_system(recorder, python=str(python) if python else None)
    redact = redactor(identity_of_this_host())
    _write_tree(directory / ROOT, recorder, redact)
    calls = Calls(
        _redacted(recorder.kernel(), redact), _kept_variables(recorder.environ, redact), redact(str(python)) if python else None
    )
    _write(directory / SYSTEM, calls)
    _write(directory / PROGRAMS, _redacted(tuple(recorder.programs), redact, tuple[Program, ...]))
    if recorder.reading is not None and recorder.reading.error != LIBRARY_NOT_FOUND:
        _write(directory / NVML, _redacted(recorder.reading, redact))
    paths.write_atomic(directory / ORIGIN, f"captured by provision {__version__} on {time.strftime('%Y-%m-%d')}\n")
    machine = replay(directory)
    _write(directory / FACTS, machine)
    return machine


def _write_tree(root: Path, recorder: _Recorder, redact: Callable[[str], str]) -> None:
    for path, text in recorder.files().items():
        paths.write_atomic(_inside(root, redact(path)), redact(text))
    for path in recorder.directories:
        _inside(root, redact(path)).mkdir(parents=True, exist_ok=True)
    for path, target in recorder.links.items():
        link = _inside(root, redact(path))
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists() and not link.is_symlink():
            link.symlink_to(os.path.relpath(redact(target), os.path.dirname(redact(path))))
    for place in [path for path in root.rglob("*") if path.is_dir() and not path.is_symlink() and not any(path.iterdir())]:
        (place / EMPTY_DIRECTORY).touch()  # version control keeps no empty directory


def _inside(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _kept_variables(environ: Mapping[str, str], redact: Callable[[str], str]) -> dict[str, str]:
    kept = {name: environ[name] for name in KEPT_VARIABLES if name in environ}
    return {name: "set" if name in PRESENCE_ALONE else redact(value) for name, value in kept.items()}


def _redacted(value: T, redact: Callable[[str], str], kind: Any = None) -> T:
    """Return a frozen value with every text in it redacted."""

    def walk(item: Any) -> Any:
        if isinstance(item, str):
            return redact(item)
        if isinstance(item, (list, tuple)):
            return [walk(part) for part in item]
        return {key: walk(part) for key, part in item.items()} if isinstance(item, dict) else item

    redacted: T = codec.from_builtins(walk(codec.to_builtins(value)), kind or type(value), what="the capture")
    return redacted


def _write(path: Path, value: Any) -> None:
    paths.write_atomic(path, codec.to_json(value))
