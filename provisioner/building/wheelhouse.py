"""The content-addressed store of wheels built here: ``WHEELHOUSE/ab/<build key>/`` holds one wheel and its provenance.

The folder of a key appears in one step, so a reader sees a whole wheel or none. On a shared file system it serves many machines.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner import download, paths
from provisioner.codec import read_json, to_json
from provisioner.errors import UsageError
from provisioner.exclusive import exclusive

LOCK_SECONDS = 24 * 3600.0
"""How long to wait for another process that builds the same wheel."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored wheel: its file and sha256."""

    path: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class _Stored:
    filename: str
    sha256: str


class Wheelhouse:
    """The store at ``root``."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = root or paths.wheelhouse_dir()

    def folder(self, key: str) -> Path:
        """Return where the wheel of ``key`` lies, or would."""
        return self.root / key[:2] / key

    def find(self, key: str) -> Entry | None:
        """Return the wheel of ``key``, None when it is not there or its bytes are no longer those that were stored."""
        index = self.folder(key) / "wheel.json"
        try:
            stored = read_json(index, _Stored)
        except UsageError:
            return None
        path = index.parent / stored.filename
        if path.is_file() and download.file_sha256(path) == stored.sha256:
            return Entry(path, stored.sha256)
        return None

    def store(self, key: str, wheel: Path, provenance: str) -> Entry:
        """Put ``wheel`` under ``key`` (replacing a damaged one) and return it."""
        folder = self.folder(key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{key[:12]}.", dir=folder.parent))
        try:
            shutil.copyfile(wheel, partial / wheel.name)
            sha256 = download.file_sha256(partial / wheel.name)
            paths.write_atomic(partial / "provenance.json", provenance)
            paths.write_atomic(partial / "wheel.json", to_json(_Stored(wheel.name, sha256)))
            os.chmod(partial, 0o755)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(partial, folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return Entry(folder / wheel.name, sha256)

    def obtain(self, key: str, make: Callable[[], Entry]) -> tuple[Entry, bool]:
        """Return the wheel of ``key`` and whether it was there already; else ``make`` builds and stores it.

        Of two processes that want it one makes it, the other waits and takes it. A wheelhouse that cannot be written still gives what it has.
        Raise what ``make`` raises, `Busy`, and `UsageError` for a wheelhouse that would have to be written and cannot be.
        """
        if entry := self.find(key):
            return entry, True
        with self._building(key):
            if entry := self.find(key):
                return entry, True
            return make(), False

    @contextmanager
    def _building(self, key: str) -> Iterator[None]:
        """Hold the right to build ``key``; wait while another process has it. Raise `Busy` after `LOCK_SECONDS`."""
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self.root / f".{key[:16]}.lock", "building this wheel", wait=LOCK_SECONDS))
            except OSError as error:
                raise UsageError(
                    f"the wheelhouse {self.root} cannot be written: {error.strerror or error}",
                    why="it does not hold this wheel yet, and what is built is stored there",
                    hints=["name another one: PROVISION_WHEELHOUSE=/a/folder/of/yours"],
                    code="wheelhouse-read-only",
                ) from error
            yield
