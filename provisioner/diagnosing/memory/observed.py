"""What a process that runs under ``provision run --observe`` says about itself, and what a memory snapshot's file holds."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, NoReturn

from provisioner.codec import from_builtins
from provisioner.diagnosing.child.observer.provision_observer import reduced
from provisioner.errors import UsageError

ANSWER_SECONDS = 5.0
"""How long an observed process may take to answer; one whose interpreter lock is held in C code cannot."""

ANSWER_LIMIT = 64 * 1024 * 1024
VARIABLE = "PROVISION_OBSERVE"


@dataclass(frozen=True, slots=True)
class Segment:
    """Memory that torch took from CUDA in one piece; bytes."""

    device: int
    total: int
    allocated: int
    largest_free: int
    blocks: int = 0
    expandable: bool = False


@dataclass(frozen=True, slots=True)
class TorchDevice:
    """torch's own counters for one GPU, bytes; ``inactive_split`` is free memory inside segments that are partly in use.

    ``index`` is the process's own number for the GPU, ``uuid`` tells which one that is (torch 2.4 and later).
    """

    index: int
    allocated: int
    reserved: int
    uuid: str | None = None
    peak_allocated: int = 0
    peak_reserved: int = 0
    inactive_split: int = 0
    retries: int = 0
    ooms: int = 0
    segments: tuple[Segment, ...] = ()
    segments_total: int = 0

    @property
    def unused(self) -> int:
        """Bytes reserved from CUDA that no tensor holds."""
        return max(0, self.reserved - self.allocated)

    @property
    def largest_free(self) -> int:
        """The largest tensor that fits without asking CUDA for more."""
        return max((segment.largest_free for segment in self.segments), default=0)

    @property
    def fragmentation(self) -> float:
        """The share of the unused bytes that one tensor cannot have: 0 when they are one piece, near 1 when they are crumbs."""
        return 1 - min(self.largest_free, self.unused) / self.unused if self.unused else 0.0


@dataclass(frozen=True, slots=True)
class TorchMemory:
    """torch in one process; ``settings`` are the allocator's own, not those of a variable."""

    version: str | None = None
    initialised: bool = True
    backend: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    devices: tuple[TorchDevice, ...] = ()


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread and its frames (file, line, function), the innermost first."""

    name: str
    main: bool
    frames: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """The answer of one process; ``error`` is the message of the out-of-memory error that ended it."""

    pid: int
    time: float
    python: str = ""
    threads: tuple[Thread, ...] = ()
    torch: TorchMemory | None = None
    variables: dict[str, str] = field(default_factory=dict)
    error: str | None = None


def folder() -> Path:
    """Return the private directory of this user's sockets: as the variable says, in the session's runtime directory, or a temporary one."""
    if os.environ.get(VARIABLE, "").startswith("/"):
        return Path(os.environ[VARIABLE])
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime.startswith("/") and Path(runtime).is_dir() else Path(tempfile.gettempdir())
    return base / f"provision-observe-{os.getuid()}"


def variables(base: Mapping[str, str]) -> dict[str, str]:
    """Return what to set so that every Python started with it can be asked; a PYTHONPATH in ``base`` stays behind ours."""
    hook = str(Path(str(files("provisioner.diagnosing"))) / "child" / "observer")
    return {VARIABLE: str(folder()), "PYTHONPATH": os.pathsep.join(filter(None, (hook, base.get("PYTHONPATH"))))}


def ask(pid: int, where: Path) -> Observed | None:
    """Return what process ``pid`` answers on its socket in ``where``; None where it does not."""
    path = where / f"{pid}.sock"
    parts, size = [], 0
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(ANSWER_SECONDS)
        connection.connect(str(path))
        while size < ANSWER_LIMIT and (part := connection.recv(1 << 16)):
            parts.append(part)
            size += len(part)
    return _read(b"".join(parts))


def is_observed(pid: int, where: Path) -> bool:
    """Say whether a process has a socket in ``where``: one that has and does not answer is stuck in C code."""
    return (where / f"{pid}.sock").exists()


def living(where: Path) -> Iterator[Observed]:
    """Yield the answers of all observed processes in ``where``; the socket of one that was killed is passed over."""
    for path in sorted(where.glob("*.sock")):
        if path.stem.isdigit() and (answer := ask(int(path.stem), where)) is not None:
            yield answer


def ended(where: Path, *, since: float) -> Iterator[Observed]:
    """Yield the processes that ended out of memory since ``since`` (seconds of the epoch), the latest first."""
    found = []
    with suppress(OSError):
        for path in where.glob("*.json"):
            with suppress(OSError), path.open("rb") as file:
                one = _read(file.read(ANSWER_LIMIT))
                if one is not None and one.error is not None and one.time >= since:
                    found.append(one)
    yield from sorted(found, key=lambda one: -one.time)


def _read(text: bytes) -> Observed | None:
    with suppress(ValueError, UsageError, RecursionError):
        return from_builtins(json.loads(text), Observed, what="answer")
    return None


class _PlainUnpickler(pickle.Unpickler):
    """Reads numbers, texts and containers, which is all that a snapshot holds; a class or a function in it is refused."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}")

    def persistent_load(self, pid: object) -> NoReturn:
        raise pickle.UnpicklingError("the file asks for an object outside itself")


def is_snapshot(raw: bytes) -> bool:
    """Say whether a file begins as ``torch.cuda.memory._dump_snapshot`` writes it: a pickle of protocol 2 or later."""
    return raw[:1] == b"\x80" and raw[1:2] in b"\x02\x03\x04\x05" and len(raw) > 2


def read_snapshot(raw: bytes) -> TorchMemory:
    """Return what a file of ``torch.cuda.memory._dump_snapshot`` says. Raise `UsageError` where it is anything else.

    A pickle can name any function to be called: this one may name none.
    """
    try:
        found = _PlainUnpickler(io.BytesIO(raw)).load()
        segments = tuple(from_builtins(reduced(one), Segment, what="segment") for one in found["segments"])
        settings = dict(found.get("allocator_settings") or {})
    except Exception as error:  # a damaged pickle raises nearly anything
        raise UsageError(
            "this is no memory snapshot of torch",
            why=str(error)[:200],
            hints=["write one with torch.cuda.memory._dump_snapshot()"],
            code="bad-snapshot",
        ) from error
    return TorchMemory(settings=settings, devices=tuple(_devices(segments)))


def _devices(segments: tuple[Segment, ...]) -> Iterator[TorchDevice]:
    for index in sorted({segment.device for segment in segments}):
        own = tuple(segment for segment in segments if segment.device == index)
        split = sum(segment.total - segment.allocated for segment in own if segment.allocated)
        allocated, reserved = sum(segment.allocated for segment in own), sum(segment.total for segment in own)
        yield TorchDevice(index, allocated, reserved, inactive_split=split, segments=own, segments_total=len(own))
