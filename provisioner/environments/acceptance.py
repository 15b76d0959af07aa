"""The last look at a flash-attn wheel before it goes in: what it really holds must fit the GPUs and link against this torch."""

from __future__ import annotations

from pathlib import Path

from provisioner import progress
from provisioner.capability import ComputeCapability
from provisioner.errors import VerificationFailed
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan
from provisioner.wheels.inspect import inspect
from provisioner.wheels.inspection import Inspection
from provisioner.wheels.torch_facts import read_torch
from provisioner.wheels.verdict import Target, reject_reasons


def accept_wheel(wheel: Path, python: Path, plan: Plan, machine: Machine) -> Inspection:
    """Return the inspection of ``wheel``, dry-linked against the torch of ``python``.

    Raise `VerificationFailed` with every reason when it would not work there: file names and labels lie, the binary does not.
    """
    torch = read_torch(python)
    if torch is None:
        raise VerificationFailed(f"there is no torch beside {python}", hints=["install torch there first"], code="no-torch")
    with progress.task(f"inspecting {wheel.name}"):
        inspection = inspect(wheel, against=torch.lib_dir)
    target = Target(
        gpus=tuple(str(ComputeCapability.parse(gpu)) for gpu in plan.gpu_classes),
        glibc=machine.platform.glibc,
        python=plan.python,
        machine=machine.platform.machine,
        torch=torch.version or plan.torch,
        torch_cuda=torch.cuda or plan.cuda,
        abi=torch.abi,
    )
    reasons = reject_reasons(inspection, target)
    if reasons:
        raise VerificationFailed(
            f"{wheel.name} would not work here: {reasons[0].text}",
            why="; ".join(reason.text for reason in reasons[1:]) or None,
            hints=["build it instead: add --build", f"look for yourself: provision inspect {wheel} --against {python}"],
            code=reasons[0].code,
            details={"reasons": [{"code": reason.code, "text": reason.text} for reason in reasons]},
        )
    return inspection
