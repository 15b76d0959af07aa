"""`provision lock --check`: whether a lock file, or the lock of an environment, is still right."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
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


def check(what: str, selection: Selection, output: Output) -> int:
    """Report whether a lock file, or the lock of an environment, is still right; exit code 1 when it is not."""
    from provisioner.cli.lock_files import read_any
    from provisioner.locking.targets import single, targets

    path, prefix = _place(what)
    whole, made_by = read_any(path, selection.machine)
    known = targets(whole)
    found: dict[Drift, Lock] = {}
    for target in known:
        lock = single(whole, target) if len(known) > 1 else whole
        for drift in _drifts(lock, selection, prefix):
            found.setdefault(drift, lock)
    rows: list[dict[str, Any]] = [
        {
            "code": each.code,
            "severity": "error",
            "primary": number == 0,
            "evidence": each.evidence,
            "fix": _fix(each, what, path, made_by)
            or (_for_this(lock, selection.machine) if each.code == "machine-drift" else _again(lock, path, len(known))),
        }
        for number, (each, lock) in enumerate(found.items())
    ]
    if output.as_json:
        output.document(lock={"path": str(path.absolute()), "packages": len(whole.packages), "made_by": made_by}, findings=rows)
    else:
        _say(path, whole, made_by, rows, output)
    return 1 if rows else 0


def _fix(drift: Drift, what: str, path: Path, made_by: str) -> str:
    """Return what to type for this lock: the names in place of the words that stand for them; "" where it has to be locked again."""
    from provisioner.locking.check import AGAIN, ANEW

    if drift.fix == ANEW:
        return ANEW.replace("NAME", what).replace("FILE", shlex.quote(str(path)))
    if made_by != "provision":
        return f"lock again with {made_by}, from channels and indexes that publish sha256"
    return "" if drift.fix == AGAIN else drift.fix.replace("FILE", str(path))


def _again(lock: Lock, path: Path, targets: int) -> str:
    """Return the line that locks again for what ``lock`` is for: the part of a file for several targets goes into a file of its own."""
    from provisioner.locking.requested import words_again

    place = path if targets == 1 and not path.is_relative_to(paths.data_dir()) else Path("new-lock.yml")
    return shlex.join([*words_again(lock), "-o", str(place)])


def _for_this(lock: Lock, machine: Machine) -> str:
    """Return the line that locks the same wishes for ``machine``, which this lock is not for, into a file of its own."""
    from dataclasses import replace

    from provisioner.locking.requested import words_again
    from provisioner.locking.targets import CLASSES, conda_platform

    classes = dict.fromkeys(gpu.capability.sm for gpu in machine.gpus if gpu.capability)
    facts = {
        CLASSES: ",".join(classes),
        "provision-driver-floor": machine.driver.version or "",
        "provision-glibc": machine.platform.glibc or "",
    }
    platform = conda_platform(machine.platform.machine)
    return shlex.join([*words_again(replace(lock, platform=platform, metadata={**lock.metadata, **facts})), "-o", "new-lock.yml"])


def _say(path: Path, lock: Lock, made_by: str, rows: list[dict[str, Any]], output: Output) -> None:
    for row in rows:
        output.say(f"{row['code']:<18}{row['evidence']}")
    if output.quiet:
        return
    if missed := lock.metadata.get("provision-unreachable"):
        output.say(f"{'note':<18}made while these did not answer, and judged so: {missed.replace(',', ', ')}")
    if made_by != "provision":
        output.say(f"{'note':<18}made by {made_by}: there is no plan to hold it against")
    if rows:
        output.say(f"next: {rows[0]['fix']}")
    elif made_by == "provision":
        output.say(f"{path}: {len(lock.packages)} packages, whole and as it would be locked today")
    else:
        output.say(f"{path}: {len(lock.packages)} packages, every one with its hash, and none lacks what it needs")


def _place(what: str) -> tuple[Path, Path | None]:
    """Return the lock file that is meant, and the environment's prefix when it is one's."""
    from provisioner.environments import store
    from provisioner.environments.manifest import FOLDER, LOCK_NAME

    path = Path(what)
    if path.is_file() or path.is_dir() or "/" in what or what.endswith((".yml", ".yaml", ".lock")):
        return path, None
    prefix = store.find(what).prefix
    return prefix / FOLDER / LOCK_NAME, prefix


def _drifts(lock: Lock, selection: Selection, prefix: Path | None) -> Iterator[Drift]:
    from provisioner.errors import NoRoute
    from provisioner.locking import check as checks
    from provisioner.locking.lock import plan_of

    yield from checks.closure(lock)
    if selection.machine.gpus:
        yield from checks.against_machine(lock, selection.machine)
    if plan_of(lock) is not None:
        try:
            fresh = plan_again(lock, selection, machine_of(lock, selection.machine))
        except NoRoute as error:
            yield checks.Drift("plan-drift", f"nothing would be chosen today: {error.what}", "provision plan --explain")
        else:
            yield from checks.against_plan(lock, fresh)
    if prefix is not None:
        yield from checks.against_prefix(lock, prefix)


def plan_again(lock: Lock, selection: Selection, machine: Machine, moving: Iterable[str] = ()) -> Plan:
    """Return the plan that would be made today for ``machine`` with what the lock was asked for, and what the selection states."""
    from dataclasses import replace

    from provisioner.cli.sources import as_asked
    from provisioner.locking.lock import plan_of
    from provisioner.locking.requested import asked_again
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    request, plan = asked_again(lock, selection.request, moving), plan_of(lock)
    if plan is not None:
        python = None if "python" in moving else plan.python
        request = replace(request, python=request.python or python, backend=request.backend or plan.backend)
    return make_plan(machine, as_asked(request, machine), load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir()))


def machine_of(lock: Lock, machine: Machine, *, as_locked: bool = False) -> Machine:
    """Return ``machine`` as the lock saw it: with its GPU classes, its glibc and the least driver that runs it, where no GPU is here.

    ``as_locked`` takes these from the lock whatever is here, unless the user states them. Sources that did not answer then do not
    answer now, unless they were asked.
    """
    from dataclasses import replace

    from provisioner.locking.lock import UNREACHABLE
    from provisioner.machine.facts import Source

    stated = {name for name, source in machine.origins.items() if source == "user"}
    if not machine.sources:
        missed = filter(None, lock.metadata.get(UNREACHABLE, "").split(","))
        machine = replace(machine, sources=tuple(Source(name, reachable=False) for name in missed))
    classes = tuple(filter(None, lock.metadata.get("provision-gpu-classes", "").split(",")))
    if "gpus" in stated or (not as_locked and (machine.gpus or not classes)):
        return machine
    driver = machine.driver.version if "driver.version" in stated or not machine.gpus else None
    machine = machine_for(machine, classes) if classes else machine
    if "platform.glibc" not in stated:
        machine = replace(machine, platform=replace(machine.platform, glibc=lock.metadata.get("provision-glibc")))
    return replace(machine, driver=replace(machine.driver, version=driver or lock.metadata.get("provision-driver-floor")))
