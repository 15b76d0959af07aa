"""All facts about a machine: the probes in order, each bounded in time, the first answer to a question kept.

The way of archspec: probe functions are registered, each returns the partial fact that it knows, and the next is tried
when one fails or hangs; that it did is itself a fact. No probe judges, and none knows what its facts are used for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
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
    known = Machine()
    asked = probes(python)
    ahead = {source.label: _Asking(source, system, known) for source in asked if source.ahead}
    for source in asked:
        asking = ahead.get(source.label) or _Asking(source, system, known)
        known = asking.added_to(known, seconds)
    return known


class _Asking:
    """A probe at work in a thread of its own, which is left behind when it hangs."""

    def __init__(self, source: Probe, system: System, known: Machine) -> None:
        self._source = source
        self._answer: Machine | None = None
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._ask, args=(system, known), name=f"probe-{source.label}", daemon=True)
        self._thread.start()

    def _ask(self, system: System, known: Machine) -> None:
        try:
            self._answer = self._source.ask(system, known)
        except Exception as error:  # a probe that fails is a fact about it, and the next is tried
            self._answer = self._fault("probe-failed", f"{type(error).__name__}: {error}")

    def added_to(self, known: Machine, seconds: float) -> Machine:
        """Return ``known`` and what the probe found, or the fault that it hangs once it had ``seconds``."""
        self._thread.join(max(0.0, self._started + seconds - time.monotonic()))
        answer = self._answer or self._fault("probe-hangs", f"did not answer within {seconds:.0f} s")
        return merge(known, answer, self._source.label)

    def _fault(self, code: str, detail: str) -> Machine:
        return Machine(faults=(Fault(code, f"{self._source.label}: {detail}"),))
