"""Single files of a package index: where an sdist lies and which hash the index gives for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from provisioner import download, paths
from provisioner.codec import from_json, to_json
from provisioner.errors import ProvisionError, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.kept_answers import kept


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of an index; ``size`` is in bytes, both it and the hash None where the index does not give them. ``url`` carries no credentials."""

    filename: str
    url: str
    sha256: str | None
    size: int | None


ACCEPTED = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"
"""What is asked for, best first: content types of PEP 691."""


@dataclass(frozen=True, slots=True)
class _File:
    filename: str
    url: str
    hashes: dict[str, str] = field(default_factory=dict)
    size: int | None = None


@dataclass(frozen=True, slots=True)
class _Page:
    files: tuple[_File, ...]


def find_sdist(project: str, version: str, settings: IndexSettings) -> IndexFile:
    """Return the sdist of ``project`` ``version`` from the user's find-links folders, else from the package index.

    Raise `SourceUnreachable` when the index does not answer or lacks that file.
    """
    if (local := _in_find_links(project, version, settings)) is not None:
        return local
    question = hashlib.sha256(f"2 {settings.url} {project} {version}".encode()).hexdigest()
    place = paths.cache_dir() / "index-files" / f"{question}.json"
    if (text := kept(place)) is not None:
        return from_json(text, IndexFile, what="a kept answer of the index")
    if download.offline.get():
        raise SourceUnreachable(
            f"the sdist of {project} {version} is needed, but --offline forbids fetching it",
            code="offline",
            hints=["leave --offline out", "or put it into a folder and name that: PIP_FIND_LINKS=/that/folder"],
        )
    found = _on_the_index(project, version, settings)
    paths.write_atomic(place, to_json(found))
    return found


def _on_the_index(project: str, version: str, settings: IndexSettings) -> IndexFile:
    host = urlsplit(settings.url).hostname or settings.url
    try:
        answer = download.get_answer(f"{settings.url.rstrip('/')}/{project}/", headers={"Accept": ACCEPTED}, accept=(200, 404))
        files = list(_files(project, answer)) if answer.status == 200 else []
    except (ProvisionError, ValueError, KeyError) as error:
        raise _no_index(host, error.what if isinstance(error, ProvisionError) else f"{type(error).__name__}: {error}") from error
    for file in files:
        if file.filename in _names(project, version):
            return file
    raise SourceUnreachable(
        f"{host} has no sdist of {project} {version}" if files else f"{host} has no project {project}",
        why="a mirror that lags behind, or a private index that holds chosen projects only",
        hints=["put the sdist into a folder and name that: PIP_FIND_LINKS=/that/folder", "or use a whole mirror: --mirror NAME"],
        code="index-lacks-file",
    )


def _files(project: str, answer: download.Answer) -> Iterator[IndexFile]:
    """Yield the files of a project's page: JSON (PEP 691) is read here, HTML (PEP 503) by pypi-simple, whose import takes a second.

    Raise `ValueError`, `KeyError` or `UsageError` when it is no page of an index.
    """
    if answer.headers.get("content-type", "").startswith("application/vnd.pypi.simple.v1+json"):
        for file in from_json(answer.text, _Page, what="the project's page").files:
            url = download.without_credentials(urljoin(answer.url, file.url))
            yield IndexFile(file.filename, url, file.hashes.get("sha256"), file.size)
        return
    from pypi_simple import ProjectPage, UnsupportedRepoVersionError

    try:
        packages = ProjectPage.from_html(project, answer.text, answer.url).packages
    except UnsupportedRepoVersionError as error:
        raise ValueError(str(error)) from error
    for package in packages:
        yield IndexFile(package.filename, download.without_credentials(package.url), package.digests.get("sha256"), package.size)


def _names(project: str, version: str) -> tuple[str, str]:
    """Return the names that an sdist may have: normalised (PEP 625), and as it was before."""
    return f"{project.replace('-', '_')}-{version}.tar.gz", f"{project}-{version}.tar.gz"


def _no_index(host: str, why: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"the package index at {host} did not answer as one",
        why=why,
        hints=["check the network and HTTPS_PROXY", "or set a mirror: `pip config set global.index-url URL`"],
        code="index-unreachable",
    )


def _in_find_links(project: str, version: str, settings: IndexSettings) -> IndexFile | None:
    for place in settings.find_links:
        folder = Path(unquote(urlsplit(place).path)) if place.startswith("file:") else Path(place)
        for name in _names(project, version):
            path = folder / name
            if path.is_file():
                return IndexFile(name, path.absolute().as_uri(), download.file_sha256(path), path.stat().st_size)
    return None
