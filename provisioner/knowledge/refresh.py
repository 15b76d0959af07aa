"""Bring the wheel index up to date from the live release lists, and say what changed."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from provisioner import paths, progress
from provisioner.errors import ProvisionError, SourceUnreachable
from provisioner.knowledge import release_lists, wheel_index, wheel_lists
from provisioner.knowledge.release_lists import Publisher
from provisioner.knowledge.wheel_lists import ReleaseFile

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """What one publisher changed since the index: file names as ``release/name``.

    ``rehashed`` are files whose sha256 is not the one that the index had: replaced under the same name, or tampered with.
    ``failure`` says why the list could not be had; the index then keeps what it had.
    """

    source: str
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    hashed: tuple[str, ...] = ()
    rehashed: tuple[str, ...] = ()
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """The outcome: the day that the index now states, how many wheels it has, what changed."""

    date: str
    wheels: int
    differences: tuple[Difference, ...]


def refresh(publishers: Sequence[Publisher] = release_lists.PUBLISHERS, *, api: str = release_lists.GITHUB_API) -> Refresh:
    """Fetch every publisher's list, store the new index in the user's cache and return what changed.

    A publisher that does not answer keeps its old files. Raises `SourceUnreachable` when none answers; nothing is written then.
    """
    old = wheel_index.load()
    known = list(wheel_lists.unfold(old.lists))
    differences: list[Difference] = []
    failures: list[SourceUnreachable] = []
    for publisher in publishers:
        before = {_key(file): file for file in known if file.source == publisher.source}
        try:
            now = {_key(file): file for file in _listed(publisher, api, anything_before=bool(before))}
        except SourceUnreachable as error:
            failures.append(error)
            differences.append(Difference(publisher.source, failure=error.what))
            continue
        differences.append(_difference(publisher.source, before, now))
        kept = [file for file in known if file.source != publisher.source]
        known = [*kept, *(_keep_hash(file, before.get(key)) for key, file in now.items())]
    if failures and len(failures) == len(differences):
        raise _nothing_reached(failures, old.date)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    date = max(today, old.date)  # a clock that is behind must not make the new index look old
    lists = wheel_lists.fold(known, date=date)
    paths.write_atomic(wheel_index.updated_index_path(), msgspec.json.encode(lists))
    wheel_index.load.cache_clear()
    return Refresh(date, sum(1 for _ in wheel_lists.unfold(lists)), tuple(differences))


def _listed(publisher: Publisher, api: str, *, anything_before: bool) -> tuple[ReleaseFile, ...]:
    """Return the files of a publisher; a list that has lost every wheel is a broken answer, not news."""
    with progress.task(f"release list of {publisher.source}"):
        files = release_lists.fetch(publisher, api=api)
    if anything_before and not files:
        raise SourceUnreachable(f"the release list of {publisher.source} names no wheel at all", code="bad-list")
    return files


def _key(file: ReleaseFile) -> Key:
    """Publishers spell ``+`` in URLs in two ways, so a file is known by its release and name."""
    return file.release, file.filename


def _difference(source: str, before: dict[Key, ReleaseFile], now: dict[Key, ReleaseFile]) -> Difference:
    both = [key for key in now if key in before]
    hashed = [key for key in both if before[key].sha256 is None and now[key].sha256 is not None]
    rehashed = [key for key in both if before[key].sha256 and now[key].sha256 and before[key].sha256 != now[key].sha256]
    return Difference(
        source,
        added=_names(key for key in now if key not in before),
        removed=_names(key for key in before if key not in now),
        hashed=_names(hashed),
        rehashed=_names(rehashed),
    )


def _names(keys: Iterable[Key]) -> tuple[str, ...]:
    return tuple(sorted("/".join(key) for key in keys))


def _keep_hash(file: ReleaseFile, before: ReleaseFile | None) -> ReleaseFile:
    """A hash that was known before stays where the list states none (files uploaded before mid-2025)."""
    if file.sha256 is not None or before is None or before.sha256 is None:
        return file
    return msgspec.structs.replace(file, sha256=before.sha256)


def _nothing_reached(failures: list[SourceUnreachable], date: str) -> ProvisionError:
    first = failures[0]
    return SourceUnreachable(
        f"no release list could be read; the index of {date} serves on",
        why="; ".join(error.what for error in failures),
        hints=(*first.hints, "`provision knowledge update --api URL` asks a mirror of GitHub's API"),
        code=first.code,
        details={"index_date": date},
    )
