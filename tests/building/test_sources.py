"""Nothing unhashed is compiled, and no archive writes outside its folder."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner import download
from provisioner.building.releases import find_release
from provisioner.building.sources import NamedTree, fetch_sdist, fetch_tree, tree_sha256, unpack
from provisioner.errors import IntegrityError, SourceUnreachable, UsageError


def make_tar(path: Path, names: dict[str, bytes], *, link: tuple[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz") as bundle:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            bundle.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            bundle.addfile(info)
    return path


def test_an_sdist_unpacks_to_its_single_folder(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", {"x-1.0/setup.py": b"1", "x-1.0/a/b.cu": b"2"})
    root = unpack(archive, tmp_path / "out")
    assert root == tmp_path / "out" / "x-1.0"
    assert (root / "a" / "b.cu").read_bytes() == b"2"
    assert unpack(archive, tmp_path / "out") == root


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "x/../../evil"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", {"x/good": b"1", name: b"2"})
    with pytest.raises(IntegrityError, match="leaves"):
        unpack(archive, tmp_path / "deep" / "out")
    assert not list((tmp_path / "deep").iterdir())


@pytest.mark.parametrize("aim", ["/etc/passwd", "../../outside"])
def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path, aim: str) -> None:
    with pytest.raises(IntegrityError, match="leaves"):
        unpack(make_tar(tmp_path / "x.tar.gz", {"x/a": b"1"}, link=("x/link", aim)), tmp_path / "out")


def test_a_file_written_through_a_link_cannot_leave_the_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as bundle:
        bundle.writestr("x/../../evil", "1")
    with pytest.raises(IntegrityError):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_truncated_archive_leaves_nothing(tmp_path: Path) -> None:
    whole = make_tar(tmp_path / "x.tar.gz", {"x/a": bytes(100_000)})
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:60])
    with pytest.raises(IntegrityError):
        unpack(tmp_path / "cut.tar.gz", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folders_hash_follows_its_contents_only(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "a").mkdir(parents=True)
        (tmp_path / name / "a" / "x.cu").write_text("kernel")
    (tmp_path / "two" / ".git").mkdir()
    (tmp_path / "two" / ".git" / "HEAD").write_text("x")
    assert tree_sha256(tmp_path / "one") == tree_sha256(tmp_path / "two")
    (tmp_path / "two" / "a" / "x.cu").write_text("other")
    assert tree_sha256(tmp_path / "one") != tree_sha256(tmp_path / "two")


def test_a_url_without_a_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="hash"):
        fetch_tree(NamedTree("https://git.example/x.tar.gz"), tmp_path)


def test_a_tree_with_another_hash_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with pytest.raises(IntegrityError):
        fetch_tree(NamedTree(str(tmp_path / "tree"), "0" * 64), tmp_path / "scratch")


def test_offline_says_where_the_sdist_may_be_put() -> None:
    token = download.offline.set(True)
    try:
        with pytest.raises(SourceUnreachable) as caught:
            fetch_sdist(find_release("1.0.9"))
    finally:
        download.offline.reset(token)
    assert any("PIP_FIND_LINKS" in hint for hint in caught.value.hints)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A package index on loopback: its URL and the folder that it serves."""
    root = tmp_path / "index"
    (root / "flash-attn").mkdir(parents=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", root
    server.shutdown()
    server.server_close()


@pytest.mark.integration
def test_the_sdist_comes_from_the_index_that_the_user_configured(tmp_path: Path, index: tuple[str, Path]) -> None:
    url, root = index
    data = make_tar(tmp_path / "x.tar.gz", {"flash_attn-1.0.9/setup.py": b"1"}).read_bytes()
    (root / "flash_attn-1.0.9.tar.gz").write_bytes(data)
    (root / "flash-attn" / "index.html").write_text('<a href="../flash_attn-1.0.9.tar.gz">flash_attn-1.0.9.tar.gz</a>')
    release = replace(find_release("1.0.9"), sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    assert fetch_sdist(release, index_url=url).read_bytes() == data
    with pytest.raises(IntegrityError):
        fetch_sdist(replace(release, sha256="1" * 64), index_url=url)


@pytest.mark.integration
def test_an_index_without_the_project_or_the_file_is_named(index: tuple[str, Path]) -> None:
    url, root = index
    (root / "flash-attn" / "index.html").write_text("<a href='x.whl'>flash_attn-9-py3-none-any.whl</a>")
    with pytest.raises(SourceUnreachable, match=r"no sdist of flash-attn 1\.0\.9"):
        fetch_sdist(find_release("1.0.9"), index_url=url)
    with pytest.raises(SourceUnreachable, match="has no project flash-attn"):
        fetch_sdist(find_release("1.0.9"), index_url=url + "empty/")
    with pytest.raises(SourceUnreachable, match="did not answer"):
        fetch_sdist(find_release("1.0.9"), index_url="http://127.0.0.1:9/simple/")


def test_builds_that_unpack_the_same_sdist_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", {f"pkg/file{number}.cu": b"kernel" * 2000 for number in range(60)})
    roots: list[Path] = []
    threads = [threading.Thread(target=lambda: roots.append(unpack(archive, tmp_path / "out"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert roots == [tmp_path / "out" / "pkg"] * 6
    assert len(list(roots[0].iterdir())) == 60
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_full_disk_is_not_called_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_tar(tmp_path / "x.tar.gz", {"pkg/a": b"1"})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space left") as caught:
        unpack(archive, tmp_path / "out")
    assert caught.value.filename == str(tmp_path / "out")
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize("location", ["/dev/null", "/there/is/none"])
def test_what_is_neither_folder_nor_file_nor_url_is_no_source(location: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such source tree"):
        fetch_tree(NamedTree(location), tmp_path)
