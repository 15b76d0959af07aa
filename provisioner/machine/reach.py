"""Which package sources answer from here: every one is tried, all at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provisioner import download
from provisioner.errors import ProvisionError
from provisioner.machine.facts import Source


def probe_sources(endpoints: Sequence[Source], *, timeout: float) -> tuple[Source, ...]:
    """Return ``endpoints`` in their order, each with whether it answers within ``timeout`` seconds. Never raises.

    An entry without a URL is left as it is; so is one that needs the network while that is forbidden (`download.offline`).
    """
    offline = download.offline.get()
    answers: dict[int, Source] = {}

    def ask(index: int, endpoint: Source) -> None:
        answers[index] = _ask(endpoint, timeout, offline=offline)

    # a context for each thread: what is set for this run (passwords) is not seen in a new thread
    threads = [threading.Thread(target=copy_context().run, args=(ask, *pair), daemon=True) for pair in enumerate(endpoints)]
    deadline = time.monotonic() + timeout + 0.5
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {timeout:.0f} s"
    found = dict(answers)  # a thread that is still busy adds nothing any more
    return tuple(found.get(index) or replace(_clean(item), reachable=False, detail=late) for index, item in enumerate(endpoints))


def _ask(endpoint: Source, timeout: float, *, offline: bool) -> Source:
    shown = _clean(endpoint)
    if endpoint.url is None:
        return shown
    if not urlsplit(endpoint.url).scheme or urlsplit(endpoint.url).scheme == "file":
        place = Path(unquote(urlsplit(endpoint.url).path))
        return (
            replace(shown, reachable=True)
            if place.exists()
            else replace(shown, reachable=False, detail=f"{place} does not exist")
        )
    if offline:
        return replace(shown, detail="not tried: --offline")
    try:
        status = download.answers(endpoint.url, timeout=timeout)
    except ProvisionError as error:
        return replace(shown, reachable=False, detail=error.what)
    except Exception as error:
        return replace(shown, reachable=False, detail=f"{type(error).__name__}: {error}"[:200])
    return replace(shown, reachable=True, detail=f"HTTP {status}")


def _clean(endpoint: Source) -> Source:
    return replace(endpoint, url=download.redact(endpoint.url)) if endpoint.url and "://" in endpoint.url else endpoint
