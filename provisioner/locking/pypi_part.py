"""The package-index part of a lock: resolved by uv for the target's Python and glibc, one hashed file for each package."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from provisioner import download, indexes
from provisioner.errors import IntegrityError, NoRoute, ProvisionError
from provisioner.indexes import IndexSettings, TorchIndex
from provisioner.locking.resolution import Answer, Question, answer
from provisioner.locking.unhashed import hash_by_download
from provisioner.locking.values import MAIN, LockedPackage, end_of_day
from provisioner.locking.wheel_choice import Target, best_wheel, file_url

__all__ = ["Target", "best_wheel", "resolve"]

TORCH_FAMILY = ("torch", "torchvision", "torchaudio")
"""What is built for one CUDA and must come from the same index; the rest of a stack is the package index's (uv's ``--torch-backend``
treats them alike; its other names are not part of any recipe)."""

TRIES = 4
"""How many pins are loosened, one at a time, to find what would work."""


def resolve(
    requirements: Sequence[str],
    target: Target,
    settings: IndexSettings,
    *,
    torch_index: str | None = None,
    exclude_newer: datetime | None = None,
    category: str = MAIN,
    find_links: bool = True,
    previous: Mapping[str, str] | None = None,
    moving: Iterable[str] = (),
) -> tuple[LockedPackage, ...]:
    """Return the exact files that satisfy ``requirements`` on ``target``, sorted by name, each with the names that it requires.

    ``torch_index`` names the index (``cu126``, ``cpu``, ``jetson/jp6/cu126``) that must serve torch and its companions. Versions in
    ``previous`` are kept where they can be, except those of the names in ``moving``.

    Raise `NoRoute` with uv's own explanation and the nearest change that works when they cannot be satisfied together,
    `SourceUnreachable` when the index does not answer.
    """
    question = Question(
        tuple(requirements),
        target,
        settings,
        exclude_newer=exclude_newer,
        find_links=find_links,
        previous=dict(previous or {}),
        moving=tuple(moving),
    )
    index = indexes.torch_index(torch_index) if torch_index is not None else None
    if index is not None:
        question = replace(question, index_url=index.url, flat=index.flat, from_index=TORCH_FAMILY[:1])
    found = _answer(question)
    rows = [row for row in found.packages if _applies(row, target)]
    locked = [_locked(row, target, category, found.requires, index if row["name"] in TORCH_FAMILY else None) for row in rows]
    return tuple(sorted(locked, key=lambda package: package.name))


def _answer(question: Question) -> Answer:
    """Return the answer in which all of torch's family comes from its index: uv takes only what is named as wanted from there."""
    try:
        found = answer(question)
        family = [row["name"] for row in found.packages if row["name"] in TORCH_FAMILY]
        if question.index_url is not None and set(family) - set(question.from_index):
            named = {_name(text) for text in question.requirements}
            wanted = (*question.requirements, *(name for name in family if name not in named))
            found = answer(replace(question, requirements=wanted, from_index=tuple(family)))
    except NoRoute as error:
        if nearest := [*_nearest(question, error.why or ""), *_nearest_day(question)]:
            raise NoRoute(error.what, why=error.why, hints=[*nearest, *error.hints], code=error.code) from error
        raise
    return found


def _nearest(question: Question, said: str) -> list[str]:
    """Return, for the pins that uv blames, the version with which the rest would go: each is tried loosened, the others staying."""
    blamed = [text for text in question.requirements if text != _name(text) and _name(text) in said]
    hints = []
    for text in blamed[::-1][:TRIES]:  # what the user added comes last, and is the easiest to change
        loosened = tuple(_name(other) if other == text else other for other in question.requirements)
        try:
            rows = answer(replace(question, requirements=loosened)).packages
        except ProvisionError:
            continue
        version = next((row["version"] for row in rows if row["name"] == _name(text)), None)
        if version is not None:
            hints.append(f"{_name(text)} {version} goes with all the rest; {text} does not")
    return hints


def _nearest_day(question: Question) -> list[str]:
    """Return, where the date is what forbids, a day from which on everything that is pinned is there: tried, not guessed."""
    if question.exclude_newer is None:
        return []
    pinned = {_name(text) for text in question.requirements if text != _name(text)}
    try:
        rows = [row for row in answer(replace(question, exclude_newer=None)).packages if row["name"] in pinned]
        last, name, version = max((_published(row), row["name"], row.get("version", "")) for row in rows)
        day = end_of_day(datetime.fromisoformat(last[:10]).replace(tzinfo=timezone.utc))
        answer(replace(question, exclude_newer=day))
    except (ProvisionError, ValueError):
        return ["leave --exclude-newer out, or name a later day"]
    return [f"--exclude-newer {day:%Y-%m-%d} goes: {name} {version}, the newest of what is wanted, came on {last[:10]}"]


def _published(row: dict[str, Any]) -> str:
    """Return when the first file of a chosen version came (ISO), "" where the index does not say."""
    return min((str(wheel["upload-time"]) for wheel in row.get("wheels", ()) if "upload-time" in wheel), default="")


def _name(requirement: str) -> str:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    return canonicalize_name(Requirement(requirement).name)


def _applies(row: dict[str, Any], target: Target) -> bool:
    from packaging.markers import Marker

    marker = row.get("marker")
    return marker is None or Marker(marker).evaluate({**target.markers(), "extra": ""})


def _locked(
    row: dict[str, Any], target: Target, category: str, requires: Mapping[str, Sequence[str]], index: TorchIndex | None
) -> LockedPackage:
    """Return a row as a package; ``index`` is PyTorch's where the row comes from there, whose flat mirrors publish no hashes."""
    chosen = best_wheel(row.get("wheels", ()), target) or row.get("archive")
    name, version = row["name"], row.get("version", "")
    if chosen is None:
        raise NoRoute(
            f"{name} {version} has no wheel for CPython {target.python} on {target.machine}, glibc {target.glibc}",
            hints=["choose another --python"],
            code="no-wheel",
        )
    url = download.canonical(file_url(chosen), index.canonical) if index else file_url(chosen)
    sha256 = chosen.get("hashes", {}).get("sha256")
    if not sha256 and not (index and index.flat):
        raise IntegrityError(
            f"the index gives no sha256 for {name} {version}",
            why="nothing unhashed goes into a lock",
            hints=["use an index that publishes hashes"],
            code="hash-unknown",
        )
    return LockedPackage(
        name=name,
        version=version,
        manager="pip",
        platform=target.platform,
        url=url,
        sha256=sha256 or hash_by_download(url),
        size=chosen.get("size"),
        category=category,
        dependencies=dict.fromkeys(requires.get(name, ()), "*"),
    )
