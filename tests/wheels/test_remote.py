from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioner.errors import SourceUnreachable
from provisioner.wheels.remote import CHUNK, RemoteFile
from tests.servers import FileServer, serve

pytestmark = pytest.mark.integration


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "data").write_bytes(random.Random(1).randbytes(700_001))
    with serve(tmp_path) as running:
        yield running


def test_reads_anywhere_give_the_bytes_of_the_file(server: FileServer) -> None:
    expected = (server.root / "data").read_bytes()
    generator = random.Random(2)
    with io.BufferedReader(RemoteFile(f"{server.url}/data"), 4096) as file:
        for _ in range(60):
            start, size = generator.randrange(len(expected)), generator.randrange(90_000)
            file.seek(start)
            assert file.read(size) == expected[start : start + size]
        file.seek(-10, io.SEEK_END)
        assert file.read() == expected[-10:]


def test_what_was_fetched_is_counted_and_not_fetched_again(server: FileServer) -> None:
    remote = RemoteFile(f"{server.url}/data")
    file = io.BufferedReader(remote, 4096)
    for _ in range(3):
        file.seek(100)
        file.read(1000)
    assert remote.moved == server.sent
    assert remote.moved <= CHUNK + 64 * 1024 + 8192
    assert remote.size == 700_001


def test_a_server_without_ranges_is_told_by_its_code_before_the_whole_file_comes(server: FileServer) -> None:
    server.ranges = False
    with pytest.raises(SourceUnreachable) as caught:
        RemoteFile(f"{server.url}/data")
    assert caught.value.code == "ranges-unsupported"


def test_a_missing_file_is_an_unreachable_source(server: FileServer) -> None:
    with pytest.raises(SourceUnreachable, match="404") as caught:
        RemoteFile(f"{server.url}/other")
    assert caught.value.code == "source-unreachable"
