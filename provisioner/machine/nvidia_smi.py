"""Asking nvidia-smi, the one program that a probe starts; that is done only when NVML did not answer.

Two runs at most: the CSV query (names in full, compute capability) and the plain table, whose header alone states the
driver's CUDA version and whose MIG section lists the instances.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from provisioner.machine.facts import Fault, Machine
from provisioner.machine.system import System, which

if TYPE_CHECKING:
    from provisioner.process import Result

SECONDS = 5.0
"""For both runs together; with the grace that a stopped program gets, the probe ends within 10 s."""

PLACES = ("/usr/bin/nvidia-smi", "/usr/lib/wsl/lib/nvidia-smi", "/usr/local/nvidia/bin/nvidia-smi", "/usr/sbin/nvidia-smi")


def facts(system: System, known: Machine) -> Machine:
    """Return what nvidia-smi says; nothing when NVML has answered already, so that no process is started."""
    if known.origins.get("driver.version") == "nvml":
        return Machine()
    program = find_program(system)
    if program is None:
        return Machine()
    from provisioner.machine.smi_output import MODERN, OLD, read_outputs

    deadline = time.monotonic() + SECONDS
    queried = _query(system, program, MODERN, deadline)
    if not queried.ok and not queried.timed_out and "not a valid field" in queried.out + queried.err:
        queried = _query(system, program, OLD, deadline)
    if queried.timed_out:
        return Machine(faults=(Fault("nvidia-smi-hangs", f"{queried.command} did not answer within {queried.seconds:.0f} s"),))
    plain = system.run([program], timeout=max(1.0, deadline - time.monotonic()))
    return read_outputs(queried, plain)


def find_program(system: System) -> str | None:
    """Return the path of nvidia-smi: on the PATH, or where drivers put it."""
    return which(system, "nvidia-smi") or next((path for path in PLACES if system.exists(path)), None)


def _query(system: System, program: str, fields: tuple[str, ...], deadline: float) -> Result:
    argv = [program, f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    return system.run(argv, timeout=max(1.0, deadline - time.monotonic()))
