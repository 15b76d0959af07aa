"""Asking the package sources whether they answer, so that planning can take it as a fact."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from provisioner import download
from provisioner.errors import SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.machine.facts import Machine

SECONDS = 10.0
"""How long a source may take to answer before it counts as unreachable."""


def with_sources(machine: Machine, settings: IndexSettings, channels: tuple[str, ...]) -> Machine:
    """Return the machine with what answers; sources that its description states are kept, and `--offline` asks none."""
    if machine.sources or download.offline.get():
        return machine
    from provisioner.locking.sources import endpoints
    from provisioner.machine.reach import probe_sources

    return replace(machine, sources=probe_sources(endpoints(settings, channels), timeout=SECONDS))


def require_index(machine: Machine) -> None:
    """Raise `SourceUnreachable` when the package index was asked and does not answer: every lock needs it."""
    index = machine.source("package-index")
    if index is None or index.reachable is not False:
        return
    raise SourceUnreachable(
        f"the package index does not answer: {urlsplit(index.url or '').hostname or index.url}",
        why=index.detail,
        hints=["check the network and HTTPS_PROXY", "or set a mirror: `pip config set global.index-url URL`"],
        code="index-unreachable",
    )
