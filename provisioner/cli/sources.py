"""Asking the package sources whether they answer, so that planning can take it as a fact."""

from __future__ import annotations

from dataclasses import replace

from provisioner.indexes import IndexSettings
from provisioner.machine.facts import Machine

SECONDS = 10.0
"""How long a source may take to answer before it counts as unreachable."""


def with_sources(machine: Machine, settings: IndexSettings, channels: tuple[str, ...]) -> Machine:
    """Return the machine with what answers; sources that its description states already are kept."""
    if machine.sources:
        return machine
    from provisioner.locking.sources import endpoints
    from provisioner.machine.reach import probe_sources

    return replace(machine, sources=probe_sources(endpoints(settings, channels), timeout=SECONDS))
