"""Where packages come from in this run: the user's mirrors, and whether each source answers, so that planning can take it as a fact."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from provisioner import download
from provisioner.errors import SourceUnreachable, UsageError
from provisioner.indexes import IndexSettings
from provisioner.machine.facts import Machine, Source
from provisioner.planning.values import Request

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = 10.0
"""How long a source may take to answer before it counts as unreachable."""


def mirroring(function: F) -> F:
    """Add ``--mirror NAME``; while the command runs, that mirror and those of the user's ``.condarc`` are used. Stands above ``@speaking``."""

    @click.option("--mirror", metavar="NAME", help="Fetch through this mirror where it has the files: tuna, ustc, bfsu, aliyun.")
    @functools.wraps(function)
    def wrapper(*args: Any, mirror: str | None, **kwargs: Any) -> Any:
        with _mirrored(mirror):
            return function(*args, **kwargs)

    return wrapper  # type: ignore[return-value]


@contextmanager
def _mirrored(name: str | None) -> Iterator[None]:
    from provisioner import indexes
    from provisioner.condarc import read_conda_settings

    conda = read_conda_settings()
    pairs = conda.mirrors
    with ExitStack() as stack:
        settings = indexes.read_index_settings()
        _set_proxies(stack, {**dict(conda.proxies), **settings.proxies})
        _set(stack, download.credentials, settings.credentials())
        if name is not None:
            mirror = _named(name)
            stated = {
                "https://conda.anaconda.org": mirror.conda,
                download.INDEX_FILES: mirror.index_files,
                indexes.TORCH_INDEX: mirror.torch,
                "https://github.com": mirror.releases,
            }
            pairs = (*((prefix, place) for prefix, place in stated.items() if place), *pairs)
            _set(stack, indexes.chosen_index, mirror.index)
            _set(stack, indexes.flat_torch_index, mirror.torch_flat)
        _set(stack, download.mirrors, pairs)
        yield


def _set_proxies(stack: ExitStack, stated: dict[str, str]) -> None:
    """Let everything in this process and what it starts use the proxies of ``.condarc`` and ``pip.conf``; the user's variables go before."""
    for scheme, url in stated.items():
        name = f"{scheme.upper()}_PROXY"
        if scheme not in ("http", "https") or any(
            os.environ.get(each) for each in (name, name.lower(), "ALL_PROXY", "all_proxy")
        ):
            continue
        os.environ[name] = url
        stack.callback(os.environ.pop, name, None)


def _named(name: str) -> Any:
    from provisioner.knowledge.mirrors import mirror, mirrors

    try:
        return mirror(name)
    except KeyError:
        known = [f"{row.name} ({row.title}; without {row.lacks})" for row in mirrors()]
        raise UsageError(
            f"no mirror is known as {name!r}",
            hints=[*known, "for another one: PROVISION_MIRRORS='https://conda.anaconda.org=https://mirror.example/conda'"],
            code="unknown-mirror",
        ) from None


def _set(stack: ExitStack, variable: ContextVar[Any], value: Any) -> None:
    token = variable.set(value)
    stack.callback(variable.reset, token)


def with_sources(machine: Machine, settings: IndexSettings, channels: tuple[str, ...]) -> Machine:
    """Return the machine with what answers; sources that its description states are kept, and `--offline` asks none.

    Offline those count as silent that did not answer the last run which asked the same places and had a package index: that run's plan
    rested on it, and what the index said for another plan is not at hand.
    """
    if machine.sources:
        return machine
    from provisioner.locking.sources import endpoints
    from provisioner.machine.reach import probe_sources

    asked = endpoints(settings, channels)
    place = _remembered_in(asked)
    if download.offline.get():
        return replace(machine, sources=_silent_last(place))
    found = probe_sources(asked, timeout=SECONDS)
    _remember(place, found)
    return replace(machine, sources=found)


def _remembered_in(asked: Sequence[Source]) -> Path:
    """Return the file that holds which of these places were silent; its name tells no address."""
    import hashlib

    from provisioner import paths

    text = "\n".join(f"{source.name} {source.url}" for source in asked)
    return paths.cache_dir() / "sources" / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.txt"


def _silent_last(place: Path) -> tuple[Source, ...]:
    names = place.read_text().split() if place.is_file() else []
    return tuple(Source(name, reachable=False, detail="it did not answer when it was asked last") for name in names)


def _remember(place: Path, found: Sequence[Source]) -> None:
    """Write which places are silent; without a package index no lock comes about, and what an earlier run found stays."""
    from provisioner import paths

    silent = [source.name for source in found if source.reachable is False]
    if "package-index" in silent or (not silent and not place.exists()):
        return
    with suppress(OSError):  # a cache that cannot be written costs only this
        paths.write_atomic(place, "".join(f"{name}\n" for name in silent))


def as_asked(request: Request, machine: Machine) -> Request:
    """Return the request as a run that asked would plan it where it is known which sources were silent then, so that both choose the same.

    Else `--offline` plans as if everything were there: for a bundle, say.
    """
    silent = {source.name for source in machine.sources if machine.answers(source.name) is False}
    return replace(request, offline=False) if silent and "package-index" not in silent else request


def channel_not_needed(machine: Machine) -> Machine:
    """Return the machine with a silent conda channel as one that was not tried: a lock is solved from the snapshot then."""
    untried = tuple(
        replace(each, reachable=None) if each.name == "conda-channel" and not each.reachable else each for each in machine.sources
    )
    return replace(machine, sources=untried)


def require_index(machine: Machine) -> None:
    """Raise `SourceUnreachable` when the package index was asked and does not answer: every lock needs it."""
    index = machine.source("package-index")
    if index is None or index.reachable is not False:
        return
    host, detail = urlsplit(index.url or "").hostname or index.url, index.detail or ""
    status = re.search(r"answered (\d{3})", detail)
    raise SourceUnreachable(
        f"the package index at {host} refuses" if status else f"the package index does not answer: {host}",
        why=detail or None,
        hints=_index_hints(status[1] if status else ""),
        code="index-unreachable",
    )


def _index_hints(status: str) -> list[str]:
    """Return what to try for an index that gives this HTTP status, "" for one that gives none."""
    mirror = "or use a mirror: --mirror NAME, `pip config set global.index-url URL`"
    if status in ("401", "403"):
        return ["put its user and password into ~/.netrc, or into the index URL of your pip or uv settings", mirror]
    if status == "404":
        return ["check its address: it usually ends in /simple, and must serve `pip` among others", mirror]
    if status.startswith("5"):
        return ["try again in a while: the server has a fault of its own", mirror]
    return ["check the network and HTTPS_PROXY", mirror]
