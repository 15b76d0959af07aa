"""All facts about a machine: the probes in order, each bounded in time, the first answer to a question kept.

The way of archspec: probe functions are registered, each returns the partial fact that it knows, and the next is tried
when one fails or hangs; that it did is itself a fact. No probe judges, and none knows what its facts are used for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from provisioner.machine import (
    compilers,
    conda,
    host,
    interpreter,
    jetson,
    nvidia_smi,
    nvml,
    pci,
    proc_sys,
    pythons,
    resources,
    toolkits,
    wsl,
)
from provisioner.machine.facts import Fault, Machine
from provisioner.machine.partial import merge
from provisioner.machine.system import LiveSystem, System

PROBE_SECONDS = 10.0
"""The time limit of each probe; one that is still busy then is left behind, and its fault says so."""


class Probe(NamedTuple):
    """A source of facts: its label, and the function that asks it, given what is known already."""

    label: str
    ask: Callable[[System, Machine], Machine]


def probes(python: str | None) -> tuple[Probe, ...]:
    """Return the probes in the order in which they are asked: the more exact source of a fact comes first."""
    return (
        Probe("host", host.facts),
        Probe("wsl", wsl.facts),
        Probe("nvml", nvml.facts),
        Probe("nvidia-smi", nvidia_smi.facts),
        Probe("proc", proc_sys.proc_facts),
        Probe("sys", proc_sys.sys_facts),
        Probe("device-tree", jetson.facts),
        Probe("pci", pci.facts),
        Probe("resources", resources.facts),
        Probe("conda", conda.facts),
        Probe("compilers", compilers.facts),
        Probe("pythons", pythons.facts),
        Probe("toolkits", partial(toolkits.facts, python=python)),
        Probe("interpreter", partial(interpreter.facts, python=python)),
    )


def probe(*, python: Path | None = None) -> Machine:
    """Return all facts about this host, and about the software of ``python`` (else of the shell's interpreter). Never raises."""
    return probe_system(LiveSystem(), python=str(python) if python else None)


def probe_system(system: System, *, python: str | None = None, seconds: float = PROBE_SECONDS) -> Machine:
    """Return all facts about ``system``, which may be a captured one. Never raises; each probe has ``seconds``."""
    known = Machine()
    for source in probes(python):
        known = _ask(source, system, known, seconds)
    return known


def _ask(source: Probe, system: System, known: Machine, seconds: float) -> Machine:
    """Return ``known`` and what the probe adds, within the time limit: a thread that hangs is left behind."""
    answer: list[Machine] = []

    def work() -> None:
        try:
            answer.append(merge(known, source.ask(system, known), source.label))
        except Exception as error:  # a probe that fails is a fact about it, and the next is tried
            answer.append(_faulty(known, "probe-failed", f"{source.label}: {type(error).__name__}: {error}"))

    thread = threading.Thread(target=work, name=f"probe-{source.label}", daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else _faulty(known, "probe-hangs", f"{source.label} did not answer within {seconds:.0f} s")


def _faulty(known: Machine, code: str, detail: str) -> Machine:
    return replace(known, faults=(*known.faults, Fault(code, detail)))
