"""What `provision lock` says, and its forms that start from a lock which is there: check, diff, update, other formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.selection import Selection, machine_for

if TYPE_CHECKING:
    from provisioner.locking.check import Drift
    from provisioner.locking.values import Lock
    from provisioner.machine.facts import Machine
    from provisioner.planning.values import Plan

STACK = frozenset({"python", "cuda", "torch", "torchvision", "torchaudio", "xformers", "triton", "flash-attn"})
"""What the plan chooses: to move one of these means to plan anew."""


def written(results: Sequence[tuple[Machine, Plan, Lock]], files: Sequence[tuple[Path, Lock]], output: Output) -> int:
    """Report what was locked, and return the exit code."""
    from provisioner.cli.plan_text import plan_lines
    from provisioner.locking.targets import targets

    if output.as_json:
        rows = [
            {"path": str(path.absolute()), "packages": len(lock.packages), "targets": [str(target) for target in targets(lock)]}
            for path, lock in files
        ]
        machine, plan, _ = results[0]
        output.document(machine=machine, plan=plan, lock=rows[0], locks=rows)
        return 0
    if output.quiet:
        return 0
    for machine, plan, _ in results:
        for line in plan_lines(machine, plan):
            output.prose(line)
    for path, lock in files:
        conda = sum(package.manager == "conda" for package in lock.packages)
        named = f" for {', '.join(map(str, targets(lock)))}" if len(results) > 1 else ""
        parts = f"{conda} conda packages, {len(lock.packages) - conda} from the package index, each with its sha256"
        output.say(f"{'lock':<13}{path}{named}: {parts}")
    return 0


def write_formats(lock: Lock, beside: Path, formats: Sequence[str]) -> list[Path]:
    """Write a lock in further formats, one file for each platform, beside the lock file; return them."""
    from provisioner.locking.export import FORMATS
    from provisioner.locking.targets import Target, single, targets

    first = {target.platform: target for target in reversed(targets(lock))}
    made = []
    for name in formats:
        template, text = FORMATS[name]
        for platform, target in first.items():
            part = single(lock, target) if len(targets(lock)) > 1 else lock
            prefix = f"{beside.name.split('.')[0]}." if beside.name.startswith(("sm_", "no-gpu")) else ""
            path = beside.with_name(prefix + template.format(platform=platform))
            paths.write_atomic(path, text(part))
            made.append(path)
        assert isinstance(target, Target)
    return made


def converted(source: Path, formats: Sequence[str], output: Output) -> int:
    """Write an existing lock in other formats, resolving nothing."""
    from provisioner.errors import UsageError
    from provisioner.locking.conda_lock_file import read_lock

    if not formats:
        raise UsageError("--from needs at least one --format", hints=["--format explicit", "--format environment.yml"])
    made = write_formats(read_lock(source), source, formats)
    if output.as_json:
        output.document(files=[str(path.absolute()) for path in made])
    elif not output.quiet:
        for path in made:
            output.say(f"{'written':<13}{path}")
    return 0


def difference(old: Path, new: Path, output: Output) -> int:
    """Report what changed between two lock files; differing is no fault."""
    from provisioner.locking.conda_lock_file import read_lock
    from provisioner.locking.diff import changes

    found = changes(read_lock(old), read_lock(new))
    if output.as_json:
        output.document(changes=found)
        return 0
    for change in found:
        sign = "+" if change.old is None else "-" if change.new is None else "~"
        versions = " → ".join(filter(None, (change.old, change.new)))
        output.say(f"{sign} {change.what:<6}{change.name:<32}{versions}  {change.platform}".rstrip())
    if not found and not output.quiet:
        output.say("the two locks hold the same packages")
    return 0


def check(what: str, selection: Selection, channels: tuple[str, ...], output: Output) -> int:
    """Report whether a lock file, or the lock of an environment, is still right; exit code 1 when it is not.

    What would be chosen today is asked with the sources that answer today, as `create` and `lock` ask it.
    """
    from dataclasses import replace

    from provisioner.cli.sources import with_sources
    from provisioner.indexes import read_index_settings
    from provisioner.locking.conda_lock_file import read_lock
    from provisioner.locking.targets import single, targets

    path, prefix = _place(what)
    whole = read_lock(path)
    selection = replace(selection, machine=with_sources(selection.machine, read_index_settings(), channels))
    known = targets(whole)
    found: list[Drift] = []
    for target in known:
        lock = single(whole, target) if len(known) > 1 else whole
        found += _drifts(lock, selection, prefix)
    rows: list[dict[str, Any]] = [
        {"code": each.code, "severity": "error", "primary": number == 0, "evidence": each.evidence, "fix": each.fix}
        for number, each in enumerate(dict.fromkeys(found))
    ]
    if output.as_json:
        output.document(lock={"path": str(path.absolute()), "packages": len(whole.packages)}, findings=rows)
    else:
        for row in rows:
            output.say(f"{row['code']:<18}{row['evidence']}")
        if not rows and not output.quiet:
            output.say(f"{path}: {len(whole.packages)} packages, whole and as it would be locked today")
        elif rows and not output.quiet:
            output.say(f"next: {rows[0]['fix']}")
    return 1 if rows else 0


def _place(what: str) -> tuple[Path, Path | None]:
    """Return the lock file that is meant, and the environment's prefix when it is one's."""
    from provisioner.environments import store
    from provisioner.environments.manifest import FOLDER, LOCK_NAME

    path = Path(what)
    if path.is_file() or "/" in what or what.endswith((".yml", ".yaml")):
        return path, None
    prefix = store.find(what).prefix
    return prefix / FOLDER / LOCK_NAME, prefix


def _drifts(lock: Lock, selection: Selection, prefix: Path | None) -> Iterator[Drift]:
    from provisioner.errors import NoRoute
    from provisioner.locking import check as checks

    yield from checks.closure(lock)
    if selection.machine.gpus:
        yield from checks.against_machine(lock, selection.machine)
    try:
        fresh = _plan_again(lock, selection)
    except NoRoute as error:
        yield checks.Drift("plan-drift", f"nothing would be chosen today: {error.what}", "provision plan --explain")
    else:
        yield from checks.against_plan(lock, fresh)
    if prefix is not None:
        yield from checks.against_prefix(lock, prefix)


def _plan_again(lock: Lock, selection: Selection) -> Plan:
    """Return the plan that would be made today for what the lock was made for, with what the selection states."""
    from dataclasses import replace

    from provisioner.cli.sources import channel_not_needed
    from provisioner.locking.lock import plan_of
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    machine, request = _machine_of(lock, selection), selection.request
    plan = plan_of(lock)
    if plan is not None:
        request = replace(request, python=request.python or plan.python, backend=request.backend or plan.backend)
    if request.backend == "conda":
        machine = channel_not_needed(machine)
    return make_plan(machine, request, load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir()))


def _machine_of(lock: Lock, selection: Selection) -> Machine:
    """Return the selection's machine; one that has no GPU here gets the lock's GPU classes, glibc and a driver that runs it."""
    from dataclasses import replace

    machine = selection.machine
    classes = tuple(filter(None, lock.metadata.get("provision-gpu-classes", "").split(",")))
    if machine.gpus or not classes:
        return machine
    machine = machine_for(machine, classes)
    glibc = lock.metadata.get("provision-glibc") or machine.platform.glibc
    floor = machine.driver.version or lock.metadata.get("provision-driver-floor")
    return replace(machine, platform=replace(machine.platform, glibc=glibc), driver=replace(machine.driver, version=floor))


def moved(path: Path, moving: tuple[str, ...], selection: Selection, drawn: Any) -> tuple[Machine, Plan, Lock]:
    """Return the lock in ``path`` with these packages moved to what is newest for them, and others only where they must."""
    from packaging.utils import canonicalize_name

    from provisioner.errors import UsageError
    from provisioner.locking.conda_lock_file import read_lock
    from provisioner.locking.lock import plan_of
    from provisioner.locking.targets import targets

    old = read_lock(path)
    plan = plan_of(old)
    if plan is None or len(targets(old)) > 1:
        raise UsageError(
            f"{path} cannot be updated by packages",
            why="it carries no plan of ours" if plan is None else "it is for several targets",
            hints=[f"lock anew: provision lock -o {path}"],
            code="foreign-lock",
        )
    names = tuple(str(canonicalize_name(name)) for name in moving)
    unknown = [name for name in names if name not in STACK and not any(package.name == name for package in old.packages)]
    if unknown:
        raise UsageError(
            f"the lock has no package {unknown[0]}", hints=["provision lock --with PKG adds one"], code="unknown-package"
        )
    machine = drawn.reached(_machine_of(old, selection), selection)
    if STACK & set(names):
        plan = _plan_again(old, Selection(machine, selection.request, selection.recipe_dirs))
    return machine, plan, drawn.lock(plan, machine, old, names)
