"""A living environment, or one that the emitted script has described, to its findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from provisioner.diagnosing import rules, unsloth_doctor
from provisioner.diagnosing.candidates import Candidate, resolve
from provisioner.diagnosing.checks import check
from provisioner.diagnosing.findings import Finding, Fix, Severity
from provisioner.diagnosing.inventory import Inventory
from provisioner.diagnosing.memory import judging
from provisioner.diagnosing.memory.devices import Device
from provisioner.machine.facts import Machine
from provisioner.machine.report import Report
from provisioner.machine.report.cleaning import CleanText


def diagnose(machine: Machine, inventory: Inventory, devices: Sequence[Device] = ()) -> tuple[Finding, ...]:
    """Return the findings about an environment on a machine, the cause first; ``devices`` are its GPUs with who holds them."""
    available = inventory.torch.get("available") if inventory.torch else None
    cpu = inventory.torch is not None and not inventory.torch.get("cuda")
    facts = Report(
        machine,
        CleanText(()),
        cuda_available=available,
        cpu_torch=cpu,
        evidence={"signal.cuda_available": f"torch.cuda.is_available() is {available}"},
    )
    memory = judging.judge(devices, wsl=machine.platform.wsl in ("1", "2"))
    verdicts = (seen for one in rules.apply(facts) if (seen := _in_environment(one, machine, inventory)) is not None)
    return resolve((*_faults(machine), *verdicts, *check(inventory), *memory, *unsloth_doctor.ask(inventory)))


def _in_environment(verdict: Candidate, machine: Machine, inventory: Inventory) -> Candidate | None:
    """Read a verdict about a machine as one about this environment; None where it does not concern it.

    A GPU without kernels in upstream's 2.x is no fault of an environment that does not have that package: the adapter and 1.x are
    made for such GPUs, and Unsloth goes on with xformers or SDPA. A CUDA torch on a machine without GPU waits for another machine.
    """
    if verdict.code.startswith("arch-unsupported"):
        copies = inventory.packages.get("flash-attn", ())[:1]
        upstream = [copy for copy in copies if not copy.adapter and not copy.version.startswith("1.")]
        return verdict if upstream else None
    if verdict.code == "cuda-unavailable" and not machine.gpus and not inventory.gpus:
        title = "there is no NVIDIA GPU here: what needs one was not tried"
        fix = Fix("examine it again where the GPU is; versions, files and imports were checked here", "provision detect")
        return Candidate("no-gpu-here", 98, Severity.INFO, title, verdict.evidence, fix)
    return verdict


_RANKS = {
    "driver-lib-mismatch": 20,
    "driver-not-running": 21,
    "nvidia-smi-hangs": 21,
    "wsl-libcuda-not-found": 23,
    "gpu-lost": 24,
}
_FAULT_FIXES = {
    "driver-lib-mismatch": Fix("reboot, or unload and reload the nvidia kernel modules"),
    "driver-not-running": Fix("install or load the NVIDIA driver on the host", "nvidia-smi"),
    "nvidia-smi-hangs": Fix("look for Xid lines in the kernel log; a wedged GPU needs a reset or a reboot", "dmesg"),
    "wsl-libcuda-not-found": Fix("put /usr/lib/wsl/lib first on LD_LIBRARY_PATH and restart WSL", "ldconfig -p"),
    "gpu-lost": Fix("look for Xid lines in the kernel log; reseat or reset the GPU", "dmesg"),
}


def _faults(machine: Machine) -> Iterator[Candidate]:
    """What the probe found broken on the machine itself. No GPU is no fault of an environment that may be for another node."""
    for fault in machine.faults:
        severity = Severity.ERROR if fault.code in _RANKS else Severity.INFO
        fix = _FAULT_FIXES.get(fault.code, Fix("`provision detect -v` shows all that was asked", "provision detect"))
        yield Candidate(
            fault.code, _RANKS.get(fault.code, 97), severity, "the machine: " + fault.code.replace("-", " "), (fault.detail,), fix
        )
