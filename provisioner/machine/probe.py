"""All facts about a machine: the probes in order, each bounded in time, the first answer to a question kept.

The way of archspec: probe functions are registered, each returns the partial fact that it knows, and the next is tried
when one fails or hangs; that it did is itself a fact. No probe judges, and none knows what its facts are used for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from provisioner.machine import (
    compilers,
    conda,
    host,
    interpreter,
    jetson,
    name_guess,
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
    """A source of facts: its label, and the function that asks it, given what is known already.

    One that is asked ``ahead`` needs nothing known; it works beside the others until its turn comes.
    """

    label: str
    ask: Callable[[System, Machine], Machine]
    ahead: bool = False


def probes(python: str | None) -> tuple[Probe, ...]:
    """Return the probes in the order in which their answers count: the more exact source of a fact comes first.

    Those for GPUs come last, because NVML waits for the driver meanwhile.
    """
    return (
        Probe("host", host.facts),
        Probe("wsl", wsl.facts),
        Probe("resources", resources.facts),
        Probe("conda", conda.facts),
        Probe("compilers", compilers.facts),
        Probe("pythons", pythons.facts),
        Probe("toolkits", partial(toolkits.facts, python=python)),
        Probe("interpreter", partial(interpreter.facts, python=python)),
        Probe("nvml", nvml.facts, ahead=True),
        Probe("nvidia-smi", nvidia_smi.facts),
        Probe("proc", proc_sys.proc_facts),
        Probe("sys", proc_sys.sys_facts),
        Probe("device-tree", jetson.facts),
        Probe("pci", pci.facts),
        Probe("name-guess", name_guess.facts),
    )


def probe(*, python: Path | None = None) -> Machine:
    """Return all facts about this host, and about the software of ``python`` (else of the shell's interpreter). Never raises."""
    return probe_system(LiveSystem(), python=str(python) if python else None)


def probe_system(system: System, *, python: str | None = None, seconds: float = PROBE_SECONDS) -> Machine:
    """Return all facts about ``system``, which may be a captured one. Never raises; each probe has ``seconds``."""
    asked = probes(python)
    ahead = {source.label: _Round((source,), system, Machine()) for source in asked if source.ahead}
    known = Machine()
    for is_ahead, sources in groupby(asked, key=lambda source: source.ahead):
        if not is_ahead:
            known = _follow(tuple(sources), system, known, seconds)
            continue
        for source in sources:
            found, _ = ahead[source.label].outcome(seconds)
            known = merge(known, found, source.label)
    return known


def _follow(sources: tuple[Probe, ...], system: System, known: Machine, seconds: float) -> Machine:
    """Return ``known`` and what the sources add, asked one after another."""
    while sources:
        known, sources = _Round(sources, system, known).outcome(seconds)
    return known


class _Round:
    """Probes at work one after another in a thread, which is left behind with the one that hangs.

    One thread for all: on a busy machine a thread of its own for each probe took longer than the probe's work.
    """

    def __init__(self, sources: tuple[Probe, ...], system: System, known: Machine) -> None:
        self._sources = sources
        self._left_behind = False
        self._state = (
            0,
            time.monotonic(),
            known,
        )  # the probe at work, since when, and what was known before; replaced as a whole
        self._thread = threading.Thread(target=self._ask_all, args=(system,), name=f"probes-{sources[0].label}", daemon=True)
        self._thread.start()

    def _ask_all(self, system: System) -> None:
        for index, source in enumerate(self._sources):
            known = self._state[2]
            try:
                answer = source.ask(system, known)
            except Exception as error:  # a probe that fails is a fact about it, and the next is tried
                answer = _fault(source, "probe-failed", f"{type(error).__name__}: {error}")
            self._state = (index + 1, time.monotonic(), merge(known, answer, source.label))
            if self._left_behind:
                return

    def outcome(self, seconds: float) -> tuple[Machine, tuple[Probe, ...]]:
        """Return what is known once all were asked, or once one hangs for ``seconds``; then also the probes after that one."""
        while True:
            alive = self._thread.is_alive()
            index, since, known = self._state
            if index == len(self._sources):
                return known, ()
            patience = since + seconds - time.monotonic()
            if patience <= 0 or not alive:
                break
            self._thread.join(patience)
        self._left_behind = True
        source = self._sources[index]
        fault = _fault(source, "probe-hangs", f"did not answer within {seconds:.0f} s")
        return merge(known, fault, source.label), self._sources[index + 1 :]


def _fault(source: Probe, code: str, detail: str) -> Machine:
    return Machine(faults=(Fault(code, f"{source.label}: {detail}"),))
