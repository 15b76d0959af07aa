"""Real servers on loopback for tests: static files with HTTP ranges, and a package index over a folder of wheels."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

TYPES = {"index.html": "text/html", "index.json": "application/vnd.pypi.simple.v1+json"}


class FileServer(ThreadingHTTPServer):
    """Serves ``root``; ``requests`` lists (method, path, range header), ``broken_after`` cuts each answer short once.

    With ``ranges`` off it sends whole files whatever is asked; ``sent`` counts the bytes of all bodies; ``encoding`` is the Content-Encoding
    that it gives every file, as Apache does for ``.gz``.
    """

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.requests: list[tuple[str, str, str | None]] = []
        self.broken_after: int | None = None
        self.password: str | None = None
        self.ranges = True
        self.encoding: str | None = None
        self.sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, path, self.headers.get("Range")))
        if self.server.password is not None and self.headers.get("Authorization") != _basic("me", self.server.password):
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        file = self.server.root / path.lstrip("/")
        if file.is_dir():
            file = file / ("index.json" if (file / "index.json").exists() else "index.html")
        if not file.is_file():
            self.send_error(404)
            return
        data = file.read_bytes()
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "") if self.server.ranges else None
        start, end = _bounds(wanted, len(data))
        if wanted and start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{min(end, len(data)) - 1}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", TYPES.get(file.name, "application/octet-stream"))
        block = data[start:end]
        self.server.sent += len(block) if body else 0
        self.send_header("Content-Length", str(len(block)))
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        self.end_headers()
        if not body:
            return
        if (cut := self.server.broken_after) is not None and len(block) > cut:
            self.server.broken_after = None
            self.wfile.write(block[:cut])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(block)

    def log_message(self, format: str, *args: object) -> None: ...


def _bounds(wanted: re.Match[str] | None, size: int) -> tuple[int, int]:
    """Return the first byte and the one after the last of a range header; ``-500`` means the last 500 bytes."""
    if wanted is None:
        return 0, size
    if not wanted[1]:
        return max(0, size - int(wanted[2] or 0)), size
    return int(wanted[1]), int(wanted[2]) + 1 if wanted[2] else size


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@contextmanager
def serve(root: Path) -> Iterator[FileServer]:
    """Serve ``root`` while the block runs."""
    server = FileServer(root)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def write_dated_index(root: Path, dates: Mapping[str, str], folder: str = "simple") -> None:
    """Write a PEP 700 index (JSON) over the distributions in ``root/files``: when each was uploaded, by the beginning of its name."""
    projects: dict[str, list[dict[str, object]]] = defaultdict(list)
    for file in sorted((root / "files").iterdir()):
        name = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
        day = next(day for start, day in dates.items() if file.name.startswith(start))
        row: dict[str, object] = {"filename": file.name, "url": f"../../files/{quote(file.name)}", "size": file.stat().st_size}
        row["hashes"] = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        projects[name].append({**row, "upload-time": f"{day}T12:00:00Z"})
    for name, files in projects.items():
        page = root / folder / name / "index.json"
        page.parent.mkdir(parents=True, exist_ok=True)
        content = {"meta": {"api-version": "1.1"}, "name": name, "versions": [], "files": files}
        page.write_text(json.dumps(content))


def write_index(root: Path, folder: str = "simple") -> None:
    """Write a PEP 503 index over the distributions in ``root/files``."""
    projects: dict[str, list[str]] = defaultdict(list)
    for file in sorted((root / "files").iterdir()):
        name = re.sub(r"[-_.]+", "-", file.name.split("-")[0]).lower()
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        projects[name].append(f'<a href="../../files/{quote(file.name)}#sha256={sha256}">{file.name}</a><br>')
    for name, links in projects.items():
        page = root / folder / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")
