"""What `provision lock` says, and its forms that start from a lock which is there: diff, update, other formats."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.lock_check import machine_of, plan_again
from provisioner.cli.lock_files import read_any
from provisioner.cli.selection import Selection

if TYPE_CHECKING:
    from provisioner.locking.diff import Change
    from provisioner.locking.values import Lock
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan

STACK = frozenset({"python", "cuda", "torch", "torchvision", "torchaudio", "xformers", "triton", "flash-attn"})
"""What the plan chooses: to move one of these means to plan anew."""


def written(
    results: Sequence[tuple[Machine, Plan, Lock]],
    files: Sequence[tuple[Path, Lock]],
    output: Output,
    before: Lock | None = None,
    formats: Sequence[str] = (),
) -> int:
    """Report what was locked, or with ``before`` what moved since, and what ``formats`` lack of it; return the exit code."""
    from provisioner.cli.plan_text import plan_lines
    from provisioner.locking.diff import changes
    from provisioner.locking.targets import targets

    if output.as_json:
        rows = [
            {"path": str(path.absolute()), "packages": len(lock.packages), "targets": [str(target) for target in targets(lock)]}
            for path, lock in files
        ]
        machine, plan, _ = results[0]
        moved_now = {} if before is None else {"changes": changes(before, files[0][1])}
        output.document(machine=machine, plan=plan, lock=rows[0], locks=rows, **moved_now)
        return 0
    if output.quiet:
        return 0
    if before is not None:
        _say_changes(changes(before, files[0][1]), output, none="nothing moved: all of it is the newest that goes together")
    for machine, plan, _ in results if before is None else ():
        for line in plan_lines(machine, plan):
            output.prose(line)
    for path, lock in files:
        conda = sum(package.manager == "conda" for package in lock.packages)
        named = f" for {', '.join(map(str, targets(lock)))}" if len(results) > 1 else ""
        parts = f"{conda} conda packages, {len(lock.packages) - conda} from the package index, each with its sha256"
        output.say(f"{'lock':<13}{path}{named}: {parts}")
    _say_left_out([lock for _, lock in files], formats, output)
    return 0


def _say_left_out(locks: Sequence[Lock], formats: Sequence[str], output: Output) -> None:
    """Say what these formats lack of the locks, since what is installed from them lacks it too."""
    from provisioner.locking.export import FORMATS, left_out

    lacking = ", ".join(name for name in dict.fromkeys(formats) if FORMATS[name].lacks)
    for text in dict.fromkeys(text for lock in locks for text in left_out(lock)) if lacking else ():
        output.say(f"{'left out':<13}of {lacking}: {text.partition(' from ')[0]}; `provision create --lock` makes it")


def write_formats(lock: Lock, beside: Path, formats: Sequence[str]) -> list[Path]:
    """Write a lock in further formats beside the lock file, one file for each platform or all; return them."""
    from provisioner.locking.export import FORMATS, exported
    from provisioner.locking.targets import single, targets

    known = targets(lock)
    first = {target.platform: target for target in reversed(known)}
    parts = [single(lock, first[platform]) if len(known) > 1 else lock for platform in sorted(first)]
    prefix = f"{beside.name.split('.')[0]}." if beside.name.startswith(("sm_", "no-gpu")) else ""
    texts = {beside.with_name(prefix + name): text for kind in formats for name, text in exported(FORMATS[kind], parts).items()}
    for path, text in texts.items():
        paths.write_atomic(path, text)
    return list(texts)


def converted(source: Path, folder: Path, formats: Sequence[str], output: Output) -> int:
    """Write an existing lock in other formats into ``folder``, resolving nothing."""
    from provisioner.errors import UsageError

    if not formats:
        raise UsageError("--from needs at least one --format", hints=["--format explicit", "--format environment.yml"])
    lock = read_any(source)[0]
    made = write_formats(lock, folder / source.name, formats)
    if output.as_json:
        output.document(files=[str(path.absolute()) for path in made])
    elif not output.quiet:
        for path in made:
            output.say(f"{'written':<13}{path}")
        _say_left_out([lock], formats, output)
    return 0


def difference(old: Path, new: Path, output: Output) -> int:
    """Report what changed between two lock files; differing is no fault."""
    from provisioner.locking.diff import changes

    found = changes(read_any(old)[0], read_any(new)[0])
    if output.as_json:
        output.document(changes=found)
        return 0
    _say_changes(found, output, none="the two locks hold the same packages")
    return 0


def _say_changes(found: Sequence[Change], output: Output, *, none: str) -> None:
    for change in found:
        sign = "+" if change.old is None else "-" if change.new is None else "~"
        versions = " → ".join(filter(None, (change.old, change.new)))
        output.say(f"{sign} {change.what:<6}{change.name:<32}{versions}  {change.platform}".rstrip())
    if not found and not output.quiet:
        output.say(none)


def _near(name: str, lock: Lock) -> list[str]:
    import difflib

    near = difflib.get_close_matches(name, {package.name for package in lock.packages}, n=1)
    return [f"did you mean {near[0]}?"] if near else []


def _anew(old: Lock) -> str:
    """Say how to lock again, into a file of its own, what cannot be moved by packages."""
    from provisioner.locking.requested import words_again
    from provisioner.locking.targets import single, targets

    known = targets(old)
    if len(known) == 1:
        return "lock anew, into another file: provision lock -o new-lock.yml"
    words = words_again(single(old, known[0]))
    return f"lock them anew, each into a file of its own: {shlex.join([*words, '-o', f'{known[0]}-lock.yml'])}"


def moved(old: Lock, path: Path, moving: tuple[str, ...], selection: Selection, drawn: Any) -> tuple[Machine, Plan, Lock]:
    """Return ``old``, the lock in ``path``, with these packages moved to what is newest for them, and others only where they must."""
    from packaging.utils import canonicalize_name

    from provisioner.cli.decided import check_decided
    from provisioner.errors import UsageError
    from provisioner.locking.lock import plan_of
    from provisioner.locking.requested import asked_again, words_again
    from provisioner.locking.targets import targets

    plan = plan_of(old)
    if plan is None or len(targets(old)) > 1:
        raise UsageError(
            f"{path} cannot be updated by packages",
            why="it carries no plan of ours" if plan is None else "it is for several targets",
            hints=[_anew(old)],
            code="foreign-lock",
        )
    conda = {package.name for package in old.of("conda")}
    names = tuple(name if name in conda else str(canonicalize_name(name)) for name in moving)
    unknown = [name for name in names if name not in STACK and not any(package.name == name for package in old.packages)]
    if unknown:
        raise UsageError(
            f"the lock has no package {unknown[0]}",
            hints=[
                *_near(unknown[0], old),
                f"one more: {shlex.join([*words_again(old), '--with', unknown[0], '-o', str(path)])}",
            ],
            code="unknown-package",
        )
    if not STACK & set(names):
        kept = "keeps what the lock decided, unless torch or another package that the plan chooses is to move"
        check_decided("--update", selection.request, (old, plan), recipe_dirs=selection.recipe_dirs, says=kept)
    drawn.as_before(old)
    machine = machine_of(old, drawn.reached(selection.machine, selection), as_locked=True)
    if STACK & set(names):
        plan = plan_again(old, selection, machine, names)
    return machine, plan, drawn.lock(plan, machine, asked_again(old, selection.request, names), old, names)
