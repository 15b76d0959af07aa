"""Sdists of a package index, looked up on a local one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner import download, kept_answers, paths
from provisioner.errors import SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.sdists import find_sdist
from tests.distributions import make_wheel
from tests.servers import serve, write_dated_index

SHA256 = "ab" * 32


def page(folder: Path, *versions: str) -> None:
    """Write the project's page, with one sdist a version."""
    (folder / "app").mkdir(exist_ok=True)
    links = (f'<a href="app-{version}.tar.gz#sha256={SHA256}">app-{version}.tar.gz</a>' for version in versions)
    (folder / "app" / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")


@pytest.mark.integration
def test_an_sdist_is_asked_for_once_in_ten_minutes_and_again_when_the_user_says_so(tmp_path: Path) -> None:
    page(tmp_path, "1.0", "2.0")
    with serve(tmp_path) as server:
        settings = IndexSettings(origin="test", default=f"{server.url}/")
        first = find_sdist("app", "1.0", settings)
        assert (first.filename, first.sha256) == ("app-1.0.tar.gz", SHA256)
        asked = len(server.requests)
        assert find_sdist("app", "1.0", settings) == first
        assert len(server.requests) == asked
        page(tmp_path, "2.0")
        token = kept_answers.refresh.set(True)
        try:
            with pytest.raises(SourceUnreachable, match=r"no sdist of app 1\.0"):
                find_sdist("app", "1.0", settings)
        finally:
            kept_answers.refresh.reset(token)


@pytest.mark.integration
def test_without_network_the_last_answer_serves_and_a_question_never_asked_is_exit_4(tmp_path: Path) -> None:
    page(tmp_path, "1.0", "2.0")
    with serve(tmp_path) as server:
        settings = IndexSettings(origin="test", default=f"{server.url}/")
        first = find_sdist("app", "1.0", settings)
    token = download.offline.set(True)
    try:
        assert find_sdist("app", "1.0", settings) == first
        with pytest.raises(SourceUnreachable, match="--offline"):
            find_sdist("app", "2.0", settings)
    finally:
        download.offline.reset(token)


@pytest.mark.integration
def test_a_page_that_is_no_index_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "index.html").write_text('<html><head><meta name="pypi:repository-version" content="9.0"></head></html>')
    with serve(tmp_path) as server:
        settings = IndexSettings(origin="test", default=f"{server.url}/")
        with pytest.raises(SourceUnreachable, match="did not answer as one") as caught:
            find_sdist("app", "1.0", settings)
        with pytest.raises(SourceUnreachable, match="has no project other"):
            find_sdist("other", "1.0", settings)
    assert caught.value.code == "index-unreachable"
    assert caught.value.hints


@pytest.mark.integration
def test_an_index_that_speaks_json_is_read_without_the_parser_of_pages(tmp_path: Path) -> None:
    make_wheel(tmp_path / "files", "app", "1.0")
    (tmp_path / "files/app-1.0.tar.gz").write_bytes(b"source")
    write_dated_index(tmp_path, {"": "2026-01-01"})
    code = """
import sys
from provisioner.indexes import IndexSettings
from provisioner.sdists import find_sdist
found = find_sdist("app", "1.0", IndexSettings("test", sys.argv[1]))
print(found.url, found.sha256, found.size, "pypi_simple" in sys.modules)
"""
    with serve(tmp_path) as server:
        run = subprocess.run([sys.executable, "-c", code, f"{server.url}/simple"], capture_output=True, text=True, timeout=60)
        sha256 = hashlib.sha256(b"source").hexdigest()
        assert run.stdout.split() == [f"{server.url}/files/app-1.0.tar.gz", sha256, "6", "False"], run.stderr


@pytest.mark.integration
def test_half_a_page_and_a_project_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app/index.json").write_text("{")
    with serve(tmp_path) as server:
        settings = IndexSettings(origin="test", default=f"{server.url}/")
        with pytest.raises(SourceUnreachable) as broken:
            find_sdist("app", "1.0", settings)
        with pytest.raises(SourceUnreachable) as absent:
            find_sdist("other", "1.0", settings)
    assert (broken.value.code, absent.value.code) == ("index-unreachable", "index-lacks-file")


@pytest.mark.integration
def test_the_address_of_an_sdist_holds_no_password_of_the_index(tmp_path: Path) -> None:
    page(tmp_path, "1.0")
    with serve(tmp_path) as server:
        settings = IndexSettings(origin="test", default=server.url.replace("http://", "http://user:secret@"))
        found = find_sdist("app", "1.0", settings)
        assert found.url == f"{server.url}/app/app-1.0.tar.gz"
        kept = "".join(path.read_text() for path in (paths.cache_dir() / "index-files").iterdir())
    assert "secret" not in kept
