from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provisioner import download
from provisioner.machine.facts import Source
from provisioner.machine.reach import probe_sources

pytestmark = pytest.mark.integration


class Index(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/simple/" else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_each_source_is_told_to_answer_or_not_and_why(server: str, silent: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    endpoints = [
        Source("package-index", url=f"{server.replace('://', '://me:secret@')}/simple/"),
        Source("releases", url=f"{server}/forbidden"),
        Source("torch-index", url=f"{silent}/whl/cu126/"),
        Source("conda-channel", url=closed),
        Source("wheelhouse", url=str(tmp_path)),
        Source("bundle", url=(tmp_path / "missing").as_uri()),
        Source("package-index"),
    ]
    started = time.monotonic()
    answers = probe_sources(endpoints, timeout=1.0)
    assert time.monotonic() - started < 4
    assert [source.reachable for source in answers] == [True, False, False, False, True, False, None]
    assert "secret" not in repr(answers)
    assert "403" in (answers[1].detail or "")
    assert "missing" in (answers[5].detail or "")


def test_offline_only_folders_are_tried(server: str, tmp_path: Path) -> None:
    token = download.offline.set(True)
    try:
        answers = probe_sources(
            [Source("package-index", url=f"{server}/simple/"), Source("wheelhouse", url=str(tmp_path))], timeout=1.0
        )
    finally:
        download.offline.reset(token)
    assert [source.reachable for source in answers] == [None, True]
