"""Applying fixes: only those that a finding marks as automatic, in the order of their causes.

A command is run here; what planning must choose first (`Repair.FLASH_ATTN`) is done by `flash_attn_repair`, on the command line's behalf.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.diagnosing.findings import Finding, Repair, Safety
from provisioner.process import Result, run

FIX_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Step:
    """A finding's code, the command that repairs it (or is the way out, see `Repair`), how it is done, and what it may do."""

    code: str
    command: str
    repair: Repair = Repair.COMMAND
    safety: Safety = Safety.REVERSIBLE
    moved_to: str | None = None


_ORDER = (Repair.COMMAND, Repair.FLASH_ATTN, Repair.MOVE)


def steps(findings: Sequence[Finding]) -> tuple[Step, ...]:
    """Return what ``--fix`` would do: nothing twice, the primary cause's first; flash-attn beside what the others installed, a copy last."""
    found: dict[tuple[Repair, str], Step] = {}
    for finding in sorted(findings, key=lambda finding: not finding.primary):
        fix = finding.fix
        if fix and fix.automatic and fix.command:
            found.setdefault((fix.repair, fix.command), Step(finding.code, fix.command, fix.repair, fix.safety, fix.moved_to))
    return tuple(sorted(found.values(), key=lambda step: _ORDER.index(step.repair)))


def now(planned: Sequence[Step]) -> tuple[Step, ...]:
    """Return the steps to be done before the environment is examined again: those of one kind, since each kind may change the next."""
    return tuple(step for step in planned if step.repair is planned[0].repair)


def apply(step: Step) -> Result:
    """Run one step's commands (``a && b``) one after another, to the first that fails, and return what happened last."""
    words = shlex.split(step.command)
    while True:
        end = words.index("&&") if "&&" in words else len(words)
        result = run(words[:end], timeout=FIX_SECONDS)
        words = words[end + 1 :]
        if not words or not result.ok:
            return result
