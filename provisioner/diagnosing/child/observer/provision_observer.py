"""Lets one's own Python process be asked where it is and what torch's allocator holds, without ptrace and without signals.

Runs inside the observed process, from Python 3.8 on, with nothing but the standard library: a daemon thread listens on a Unix
socket in a directory that only its user can enter, and answers each connection with one JSON document. It obeys nothing and reads
nothing. A thread, not a signal handler: it answers while the main thread waits in a kernel launch, and frameworks use SIGUSR1.
When the process dies of CUDA's out of memory, the same document is left beside the socket.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import stat
import struct
import sys
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

FRAMES = 40
SEGMENTS = 4000
ALLOCATOR_VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_NO_CUDA_MEMORY_CACHING")


def start() -> None:
    """Begin to answer on ``$PROVISION_OBSERVE/PID.sock``; on any failure the process goes on unobserved."""
    folder = os.environ.get("PROVISION_OBSERVE", "")
    try:
        listener = listen(folder)
    except (OSError, ValueError):
        return
    threading.Thread(target=serve, args=(listener,), name="provision-observer", daemon=True).start()
    owner = os.getpid()
    atexit.register(lambda: remove(folder, owner))
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> Any:
        if kind.__name__ == "OutOfMemoryError" and os.getpid() == owner:
            leave(folder, error)
        return previous(kind, error, trace)

    sys.excepthook = hook


def listen(folder: str) -> socket.socket:
    """Return a listening socket in ``folder``, which is made; raise OSError where it is not this user's alone."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise OSError("not a private directory: " + folder)
    path = os.path.join(folder, "%d.sock" % os.getpid())
    remove(folder, os.getpid())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path + ".new")
        listener.listen(4)
        os.rename(path + ".new", path)  # whoever sees it gets an answer
    except OSError:
        listener.close()
        raise
    return listener


def remove(folder: str, owner: int) -> None:
    """Take the socket of process ``owner`` away, if that is this one and not a fork of it."""
    if os.getpid() == owner:
        with suppress(OSError):
            os.unlink(os.path.join(folder, "%d.sock" % owner))


def serve(listener: socket.socket) -> None:
    """Answer connections of this user and of root, one after the other, for ever."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            try:
                connection.settimeout(5.0)
                _, user, _ = struct.unpack(
                    "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
                )
                if user in (0, os.getuid()):
                    connection.sendall(json.dumps(document()).encode())
            except Exception:  # an observer must never disturb what it observes
                pass


def leave(folder: str, error: BaseException) -> None:
    """Leave the document of a process that dies of out of memory."""
    try:
        found = document()
        found["error"] = str(error)[:2000]
        path = os.path.join(folder, "%d.json" % os.getpid())
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0), 0o600)
        with os.fdopen(handle, "w") as file:
            json.dump(found, file)
    except Exception:
        pass


def document() -> dict[str, Any]:
    """Return what is known about this process: the stack of each thread and torch's memory."""
    return {
        "pid": os.getpid(),
        "time": time.time(),
        "python": sys.version.split()[0],
        "threads": threads(),
        "torch": torch_memory(),
        "variables": {name: os.environ[name] for name in ALLOCATOR_VARIABLES if name in os.environ},
    }


def threads() -> list[dict[str, Any]]:
    """Return the threads, the main one first, each with its frames, the innermost first."""
    main, own = threading.main_thread().ident, threading.get_ident()
    names = {one.ident: one.name for one in threading.enumerate()}
    found = []
    for ident, frame in sorted(sys._current_frames().items(), key=lambda item: item[0] != main):
        if ident == own:
            continue
        frames: list[list[Any]] = []
        current: Any = frame
        while current is not None and len(frames) < FRAMES:
            frames.append([current.f_code.co_filename, current.f_lineno, current.f_code.co_name])
            current = current.f_back
        found.append({"name": names.get(ident, "?"), "main": ident == main, "frames": frames})
    return found


def torch_memory() -> dict[str, Any] | None:
    """Return torch's counters and segments per device; None where torch is not imported. Nothing is initialised by asking."""
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not hasattr(cuda, "is_initialized"):
        return None
    found: dict[str, Any] = {"version": str(torch.__version__), "initialised": bool(cuda.is_initialized()), "devices": []}
    if not found["initialised"]:
        return found
    snapshot = cuda.memory._snapshot()
    found["settings"] = plain(snapshot.get("allocator_settings") or {})
    found["backend"] = cuda.get_allocator_backend()
    segments = [reduced(one) for one in snapshot.get("segments", ())]
    for index in range(cuda.device_count()):
        counters = cuda.memory_stats(index)
        if counters.get("reserved_bytes.all.peak", 0) == 0:
            continue
        own = [one for one in segments if one["device"] == index]
        uuid = str(getattr(cuda.get_device_properties(index), "uuid", "")) or None
        found["devices"].append(dict(counted(counters), index=index, uuid=uuid, segments=own[:SEGMENTS], segments_total=len(own)))
    return found


def counted(counters: dict[str, Any]) -> dict[str, int]:
    """Return torch's counters, bytes, under the names used here (torch.cuda.memory_stats)."""
    names = {
        "allocated": "allocated_bytes.all.current",
        "reserved": "reserved_bytes.all.current",
        "peak_allocated": "allocated_bytes.all.peak",
        "peak_reserved": "reserved_bytes.all.peak",
        "inactive_split": "inactive_split_bytes.all.current",
        "retries": "num_alloc_retries",
        "ooms": "num_ooms",
    }
    return {name: int(counters.get(key, 0)) for name, key in names.items()}


def reduced(segment: dict[str, Any]) -> dict[str, Any]:
    """Return a segment of a snapshot without its blocks: their count and the largest free one are kept."""
    blocks = segment.get("blocks") or []
    free = [int(one["size"]) for one in blocks if one.get("state") == "inactive"]
    return {
        "device": int(segment.get("device", 0)),
        "total": int(segment["total_size"]),
        "allocated": int(segment["allocated_size"]),
        "largest_free": max(free, default=0),
        "blocks": len(blocks),
        "expandable": bool(segment.get("is_expandable", False)),
    }


def plain(settings: dict[Any, Any]) -> dict[str, Any]:
    """Return settings that JSON can hold."""
    return {
        str(name): value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
        for name, value in settings.items()
    }
