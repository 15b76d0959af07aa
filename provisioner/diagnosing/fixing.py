"""Applying fixes: only those that a finding marks as automatic, each a plain command, in the order of their causes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.diagnosing.findings import Finding
from provisioner.process import Result, run

FIX_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Step:
    """A finding's code and the command that repairs it."""

    code: str
    command: str


def steps(findings: Sequence[Finding]) -> tuple[Step, ...]:
    """Return what ``--fix`` would run: no command twice, the primary cause's first."""
    ordered = sorted(findings, key=lambda finding: not finding.primary)
    found = {
        finding.fix.command: finding.code
        for finding in reversed(ordered)
        if finding.fix and finding.fix.automatic and finding.fix.command
    }
    return tuple(Step(code, command) for command, code in reversed(found.items()))


def apply(step: Step) -> Result:
    """Run one step to its end and return what happened."""
    return run(shlex.split(step.command), timeout=FIX_SECONDS)
