"""Applying fixes: only those that a finding marks as automatic, in the order of their causes.

A command is run here; what planning must choose first (`Repair.FLASH_ATTN`) is done by `flash_attn_repair`, on the command line's behalf.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioner.diagnosing.findings import Finding, Repair, Safety
from provisioner.process import Result, run

FIX_SECONDS = 1800.0
BEFORE = ".before-provision-doctor"
"""Ending of the folders in which a repair keeps what was there before it, until it has ended well."""


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


def apply_undoably(step: Step, prefix: Path) -> Result:
    """Run one step; where it fails, or is interrupted, the packages and scripts of the environment ``prefix`` are as they were.

    A copy elsewhere changes nothing in it, and nothing may be added to it meanwhile.
    """
    if step.repair is Repair.MOVE or not is_undoable(prefix):
        return apply(step)
    with _kept(prefix) as kept:
        result = apply(step)
        if result.ok:
            kept.clear()
        return result


def is_undoable(prefix: Path) -> bool:
    """Say whether ``prefix`` is an environment of its own: the scripts of a whole system are not put aside and back."""
    return (prefix / "pyvenv.cfg").is_file() or (prefix / "conda-meta").is_dir()


@contextmanager
def _kept(prefix: Path) -> Iterator[dict[Path, Path]]:
    """Keep hard links to an environment's files and put them back, unless the block has emptied what is yielded.

    Installers write new files in place of old ones and never into them, so that a link keeps what was there; 30,000 take a second.
    What a repair that was killed has left is put back first.
    """
    folders = [*prefix.glob("lib/python3.*/site-packages"), prefix / "bin"]
    kept = {folder: folder.with_name(folder.name + BEFORE) for folder in folders}
    _put_back({folder: copy for folder, copy in kept.items() if copy.exists()})
    try:
        for folder, copy in kept.items():
            _link_tree(folder, copy)
    except (OSError, shutil.Error):  # a file system without links: pip and uv then undo what they can themselves
        _forget(kept)
        kept = {}
    copies = dict(kept)
    try:
        yield kept
    finally:
        _put_back(kept)
        _forget(copies)


def _link_tree(folder: Path, copy: Path) -> None:
    """Make ``copy`` a tree of links to the files of ``folder``; it has its name only when it is whole."""
    half = copy.with_name(copy.name + "-half")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(folder, half, symlinks=True, copy_function=os.link)
    half.rename(copy)


def _put_back(kept: dict[Path, Path]) -> None:
    for folder, copy in kept.items():
        broken = copy.with_name(copy.name + "-broken")
        shutil.rmtree(broken, ignore_errors=True)
        if folder.exists():
            folder.rename(broken)
        copy.rename(folder)
        shutil.rmtree(broken, ignore_errors=True)


def _forget(copies: dict[Path, Path]) -> None:
    for copy in copies.values():
        for path in (copy, copy.with_name(copy.name + "-half")):
            shutil.rmtree(path, ignore_errors=True)
