"""Single files of a package index: where an sdist lies and which hash the index gives for it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from provisioner import download, paths
from provisioner.codec import from_json, to_json
from provisioner.errors import SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.kept_answers import kept

if TYPE_CHECKING:
    from pypi_simple import ProjectPage


@dataclass(frozen=True, slots=True)
class IndexFile:
    """A file of an index; ``size`` is in bytes, both it and the hash None where the index does not give them."""

    filename: str
    url: str
    sha256: str | None
    size: int | None


def find_sdist(project: str, version: str, settings: IndexSettings) -> IndexFile:
    """Return the sdist of ``project`` ``version`` from the user's find-links folders, else from the package index.

    Raise `SourceUnreachable` when the index does not answer or lacks that file.
    """
    if (local := _in_find_links(project, version, settings)) is not None:
        return local
    question = hashlib.sha256(f"{settings.url} {project} {version}".encode()).hexdigest()
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
    from pypi_simple import ACCEPT_ANY

    host = urlsplit(settings.url).hostname or settings.url
    try:
        answer = download.get_answer(f"{settings.url.rstrip('/')}/{project}/", headers={"Accept": ACCEPT_ANY}, accept=(200, 404))
    except SourceUnreachable as error:
        raise _no_index(host, error.what) from error
    packages = _page(project, answer, host).packages if answer.status == 200 else []
    for package in packages:
        if package.package_type == "sdist" and package.version == version:
            return IndexFile(package.filename, package.url, package.digests.get("sha256"), package.size)
    raise SourceUnreachable(
        f"{host} has no sdist of {project} {version}" if packages else f"{host} has no project {project}",
        why="a mirror that lags behind, or a private index that holds chosen projects only",
        hints=["put the sdist into a folder and name that: PIP_FIND_LINKS=/that/folder", "or use a whole mirror: --mirror NAME"],
        code="index-lacks-file",
    )


def _page(project: str, answer: download.Answer, host: str) -> ProjectPage:
    """Return the project's page, in whichever form the index serves it (PEP 503's HTML or PEP 691's JSON)."""
    from pypi_simple import ProjectPage, UnsupportedRepoVersionError

    try:
        if answer.headers.get("content-type", "").startswith("application/vnd.pypi.simple.v1+json"):
            return ProjectPage.from_json_data(json.loads(answer.text), answer.url)
        return ProjectPage.from_html(project, answer.text, answer.url)
    except (ValueError, KeyError, UnsupportedRepoVersionError) as error:
        raise _no_index(host, f"{type(error).__name__}: {error}") from error


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
        for name in (f"{project.replace('-', '_')}-{version}.tar.gz", f"{project}-{version}.tar.gz"):
            path = folder / name
            if path.is_file():
                return IndexFile(name, path.absolute().as_uri(), download.file_sha256(path), path.stat().st_size)
    return None
