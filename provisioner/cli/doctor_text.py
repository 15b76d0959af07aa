"""What ``provision doctor`` found, as text: the machine, the findings, and the plan for the machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.cli.console import Output
    from provisioner.diagnosing.findings import Finding
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan

OBTAINED = {"wheel": "a prebuilt wheel", "source": "compiled there", "shim": "the 2.x adapter"}
"""How a plan's flash-attn is had, by the plan's route."""

_PROSE = re.compile(r"\S|    (?:fix|explains): ")
"""Lines to be read; the others quote the evidence or are commands to be copied, and stay whole."""


def show(
    output: Output, machine: Machine, findings: tuple[Finding, ...], plan: Plan | None, reason: str | None, *, stated_only: bool
) -> None:
    """Print the machine, the findings and the plan, or ``reason`` where there is none; ``stated_only`` leaves out unknown facts."""
    from provisioner.cli.machine_text import machine_lines

    for line in machine_lines(machine):
        if not (stated_only and line.split("  ")[-1].strip().startswith(("unknown", "none found"))):
            output.prose(line)
    output.say()
    say_findings(output, findings)
    if not findings:
        output.say("Nothing wrong was found.")
    if plan is not None:
        chosen = plan.flash_attn
        how = f"flash-attn {chosen.version}, {OBTAINED[plan.route]}" if chosen else f"no flash-attn ({plan.attention})"
        output.prose(f"Plan for this machine: recipe {plan.recipe}, Python {plan.python}, torch {plan.torch}, {how}")
        for note in plan.notes if not machine.gpus else ():
            output.prose(f"    {note}")
    elif reason:
        output.prose(f"No plan for this machine: {reason}")


def say_findings(output: Output, findings: Iterable[Finding]) -> None:
    """Print each finding: what it is, its evidence, its repair."""
    for finding in findings:
        for line in finding_lines(finding):
            (output.prose if _PROSE.match(line) else output.say)(line)


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding's lines, the first of them its code and title."""
    mark = "CAUSE" if finding.primary else str(finding.severity)
    lines = [f"{mark} [{finding.code}] {finding.title}"]
    lines += [f"    {quote}" for quote in finding.evidence[:4]]
    if finding.fix:
        lines.append(f"    fix: {finding.fix.text}")
        if finding.fix.command:
            lines.append(f"         {finding.fix.command}   ({finding.fix.safety})")
    if finding.explains:
        lines.append(f"    explains: {', '.join(finding.explains)}")
    return lines
