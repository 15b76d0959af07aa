"""A living environment, or one that the emitted script has described, to its findings."""

from __future__ import annotations

from provisioner.diagnosing import rules
from provisioner.diagnosing.candidates import resolve
from provisioner.diagnosing.checks import check
from provisioner.diagnosing.findings import Finding
from provisioner.diagnosing.inventory import Inventory
from provisioner.machine.facts import Machine
from provisioner.machine.report import Report
from provisioner.machine.report.cleaning import CleanText


def diagnose(machine: Machine, inventory: Inventory) -> tuple[Finding, ...]:
    """Return the findings about an environment on a machine, the cause first."""
    available = inventory.torch.get("available") if inventory.torch else None
    cpu = inventory.torch is not None and not inventory.torch.get("cuda")
    facts = Report(
        machine,
        CleanText(()),
        cuda_available=available,
        cpu_torch=cpu,
        evidence={"signal.cuda_available": f"torch.cuda.is_available() is {available}"},
    )
    return resolve((*rules.apply(facts), *check(inventory)))
