from __future__ import annotations

import gzip
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provisioner import download
from provisioner.errors import IntegrityError, SourceUnreachable, UsageError
from tests.servers import serve

pytestmark = pytest.mark.integration

DATA = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(DATA).hexdigest()


def test_a_broken_transfer_continues_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(DATA)
    with serve(tmp_path / "served") as server:
        server.broken_after = 3_000_000
        path = download.fetch(f"{server.url}/file", tmp_path / "out/file", sha256=SHA256, size=len(DATA))
    assert path.read_bytes() == DATA
    assert next(row[2] for row in server.requests) is None
    assert (server.requests[1][2] or "").startswith("bytes=")
    assert server.requests[1][2] != "bytes=0-"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_an_archive_that_the_server_calls_encoded_stays_packed(tmp_path: Path, encoding: str) -> None:
    packed = gzip.compress(DATA)
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file.tar.gz").write_bytes(packed)
    with serve(tmp_path / "served") as server:
        server.encoding = encoding
        path = download.fetch(f"{server.url}/file.tar.gz", tmp_path / "out", sha256=hashlib.sha256(packed).hexdigest())
    assert path.read_bytes() == packed


def test_a_full_disk_is_not_called_an_unreadable_source(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    partial = tmp_path / f".copy.{SHA256[:12]}.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        download.fetch(source.as_uri(), tmp_path / "copy", sha256=SHA256)
    assert caught.value.filename == str(partial)
    with pytest.raises(SourceUnreachable, match="cannot read"):
        download.fetch((tmp_path / "gone").as_uri(), tmp_path / "copy", sha256=SHA256)


def test_of_several_that_want_one_file_at_once_one_fetches_it(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(DATA)
    with serve(tmp_path / "served") as server, ThreadPoolExecutor(4) as pool:
        wanted = [pool.submit(download.fetch, f"{server.url}/file", tmp_path / "out/file", sha256=SHA256) for _ in range(4)]
        assert {each.result().read_bytes() == DATA for each in wanted} == {True}
    assert len(server.requests) == 1
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["file"]


def test_another_file_than_the_locked_one_is_refused_and_not_kept(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/file").write_bytes(DATA[:-1] + b"!")
    with serve(tmp_path / "served") as server, pytest.raises(IntegrityError) as caught:
        download.fetch(f"{server.url}/file", tmp_path / "out/file", sha256=SHA256)
    assert caught.value.exit_code == 5
    assert list((tmp_path / "out").iterdir()) == []


def test_a_dead_server_is_named_and_a_password_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    with pytest.raises(SourceUnreachable) as caught:
        download.fetch("http://user:secret@127.0.0.1:9/file?token=secret", tmp_path / "file")
    assert caught.value.exit_code == 4
    assert "127.0.0.1" in caught.value.what
    assert "secret" not in str(caught.value.to_dict())


def test_offline_asks_nobody_but_still_reads_files(tmp_path: Path) -> None:
    source = tmp_path / "with space"
    source.write_bytes(DATA)
    token = download.offline.set(True)
    try:
        assert download.fetch(source.as_uri(), tmp_path / "copy", sha256=SHA256).read_bytes() == DATA
        with serve(tmp_path) as server:
            with pytest.raises(SourceUnreachable, match="--offline"):
                download.get_answer(server.url + "/with%20space")
            assert server.requests == []
    finally:
        download.offline.reset(token)


def test_a_mirror_replaces_the_beginning_of_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gh/owner").mkdir(parents=True)
    (tmp_path / "gh/owner/file").write_text("mirrored")
    with serve(tmp_path) as server:
        monkeypatch.setenv(download.MIRRORS_VARIABLE, f"https://releases.example={server.url}/gh")
        assert download.get_answer("https://releases.example/owner/file").text == "mirrored"
    assert download.mirrored("https://releases.example.org/x") == "https://releases.example.org/x"


def test_a_proxy_that_does_not_answer_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    with pytest.raises(SourceUnreachable) as caught:
        download.get_answer("http://index.example/simple/")
    assert "index.example through the proxy http://127.0.0.1:9" in caught.value.what
    assert "secret" not in str(caught.value.to_dict())
    assert "HTTPS_PROXY" in caught.value.hints[0]


@pytest.mark.parametrize(
    "stated", ["garbage", "https://github.com=", "https://github.com=mirror.example", "=https://mirror.example"]
)
def test_a_mirror_that_is_none_is_not_passed_over(stated: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROVISION_MIRRORS", f"https://a.example=https://b.example/a {stated}")
    with pytest.raises(UsageError) as caught:
        download.mirrored("https://a.example/x")
    assert caught.value.code == "bad-mirrors"
