"""One process at a time: what another one is making is waited for, and the user is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from provisioner import progress
from provisioner.errors import Busy


@contextmanager
def exclusive(path: Path, work: str, *, wait: float | None = None) -> Iterator[None]:
    """Hold the lock file ``path``, made with its folder, while the block runs; the kernel lets go of it when its holder dies.

    A holder among other processes is waited for, ``wait`` seconds at most (None: as long as it takes). ``work`` says what it is doing
    ("fetching torch-2.13.0.whl"). Raise `Busy` when it is not done by then, `OSError` when the file cannot be written.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if wait != 0:
            progress.note(f"another provision is {work}: waiting for it")
        try:
            lock.acquire(timeout=-1 if wait is None else wait)
        except Timeout:
            raise Busy(
                f"another provision is {work}", why=f"it is not done after {wait / 60:.0f} minutes" if wait else None
            ) from None
    try:
        yield
    finally:
        lock.release()
