"""Answers of package indexes that are taken as fresh for a short while, so that the same question twice in a row is asked once."""

from __future__ import annotations

import time
from contextvars import ContextVar
from pathlib import Path

from provisioner import download

KEPT_SECONDS = 600
"""How long the answer to the very same question is taken as fresh, as an index's pages usually are (``Cache-Control: max-age=600``)."""

refresh: ContextVar[bool] = ContextVar("refresh", default=False)
"""True while every index must be asked again (``--refresh``)."""


def kept(path: Path) -> str | None:
    """Return the answer kept in a file when it is younger than `KEPT_SECONDS` (offline: of any age), else None."""
    try:
        age = time.time() - path.stat().st_mtime
        fresh = not refresh.get() and 0 <= age < KEPT_SECONDS
        return path.read_text() if fresh or download.offline.get() else None
    except OSError:
        return None
