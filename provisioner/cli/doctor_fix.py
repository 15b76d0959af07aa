"""``provision doctor --fix``: the repairs shown, agreed to, and carried out one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output

if TYPE_CHECKING:
    from provisioner.diagnosing.fixing import Step
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan


@dataclass(frozen=True, slots=True)
class Work:
    """A step as it will be done: with a plan, flash-attn is installed; without, the command is run. ``why`` says why there is none."""

    step: Step
    plan: Plan | None = None
    why: str | None = None

    @property
    def line(self) -> str:
        """What is shown before anybody agrees."""
        from provisioner.diagnosing.flash_attn_repair import described

        does = (
            described(self.plan)
            if self.plan
            else self.step.command + (f"   (no flash-attn fits: {self.why})" if self.why else "")
        )
        return f"  {self.step.code}: {does}   [{self.step.safety}]"


def repair(
    python: Path, machine: Machine, planned: tuple[Step, ...], output: Output, *, dry_run: bool, yes: bool, offline: bool
) -> bool:
    """Show the repairs, and apply them once agreed to; return whether anything was changed. Raise `Findings` where one fails.

    Commands come first, and alone: they may change the torch for which flash-attn is then chosen.
    """
    from provisioner.diagnosing.fixing import now

    with output.progress():
        works = [_work(step, machine, offline=offline) for step in now(planned)]
    output.say("Repairs:")
    for work in works:
        output.say(work.line)
    for step in planned[len(works) :]:
        output.say(f"  then {step.code}: {_LATER[step.repair]}")
    if dry_run or not (yes or click.confirm("Apply them?", err=True)):
        return False
    for work in works:
        with output.progress():
            _carry_out(work, python, machine)
    return True


_LATER = {"flash-attn": "the flash-attn for the torch that is there afterwards", "move": "the copy, once this one is repaired"}


def _work(step: Step, machine: Machine, *, offline: bool) -> Work:
    """Decide how a step is done: for flash-attn planning is asked, with the sources that answer now."""
    from provisioner.diagnosing.findings import Repair

    if step.repair is not Repair.FLASH_ATTN:
        return Work(step)
    from provisioner.cli.sources import with_sources
    from provisioner.diagnosing.flash_attn_repair import choose
    from provisioner.errors import ProvisionError
    from provisioner.indexes import read_index_settings

    if not machine.gpus or machine.software.torch_cuda is None:
        return Work(step, why="no GPU is known" if not machine.gpus else "there is no CUDA torch")
    try:
        return Work(step, choose(with_sources(machine, read_index_settings(), ()), offline=offline))
    except ProvisionError as error:
        return Work(step, why=error.what)


def _carry_out(work: Work, python: Path, machine: Machine) -> None:
    from provisioner.diagnosing.fixing import apply_undoably, is_undoable
    from provisioner.diagnosing.flash_attn_repair import carry_out
    from provisioner.errors import Findings, ProvisionError

    if work.plan is not None:
        try:
            carry_out(python, work.plan, machine)
        except ProvisionError as error:
            hints = [*error.hints, f"or do without: {work.step.command}"]
            raise Findings(
                f"the repair of {work.step.code} failed: {error.what}", why=error.why, hints=hints, code="repair-failed"
            ) from error
        return
    result = apply_undoably(work.step, python.parent.parent)
    if not result.ok:
        last = (result.err.strip() or result.out.strip() or "no output").splitlines()[-1]
        raise Findings(
            f"the repair of {work.step.code} failed: {last}",
            why="the environment is as it was before" if is_undoable(python.parent.parent) else None,
            hints=[work.step.command],
            code="repair-failed",
        )
