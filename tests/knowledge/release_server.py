"""A server on loopback that speaks the shape of GitHub's release API: pages, ETags, rate limits, broken answers."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


def asset(owner: str, tag: str, name: str, content: str | None = None, size: int = 1000) -> dict[str, Any]:
    """Return a file of a release as the API states it; ``content`` decides its digest, None leaves it out."""
    written = name.replace("+", "%2B")
    digest = None if content is None else f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"
    url = f"https://github.com/{owner}/releases/download/{tag}/{written}"
    return {"name": name, "browser_download_url": url, "size": size, "digest": digest, "state": "uploaded"}


def release(tag: str, *assets: dict[str, Any], draft: bool = False) -> dict[str, Any]:
    """Return a release as the API states it."""
    return {"tag_name": tag, "draft": draft, "prerelease": False, "assets": list(assets)}


@dataclass
class ReleaseServer:
    """What the server answers, and what it was asked. ``repositories`` maps ``owner/name`` to its releases, two to a page."""

    url: str = ""
    repositories: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    limited: bool = False
    busy: int = 0
    truncated: set[str] = field(default_factory=set)
    broken_off: set[str] = field(default_factory=set)
    asked: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    page_size: int = 2

    def statuses(self) -> list[int]:
        """The statuses answered so far."""
        return [status for _, status, _ in self.asked]


@contextmanager
def serve() -> Iterator[ReleaseServer]:
    """Run the server while the block runs."""
    state = ReleaseServer()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def _handler(state: ReleaseServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            repository = parts.path.removeprefix("/repos/").removesuffix("/releases")
            page = int(parse_qs(parts.query).get("page", ["1"])[0])
            if state.limited:
                return self._answer(
                    403,
                    b'{"message": "API rate limit exceeded"}',
                    {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1900000000"},
                )
            if state.busy:
                state.busy -= 1
                return self._answer(502, b"", {})
            if repository not in state.repositories:
                return self._answer(404, b'{"message": "Not Found"}', {})
            releases, size = state.repositories[repository], state.page_size
            body = json.dumps(releases[(page - 1) * size : page * size]).encode()
            headers = {"ETag": f'W/"{hashlib.sha256(body).hexdigest()[:16]}"'}
            if page * size < len(releases):
                following = f"{state.url}{parts.path}?per_page=30&page={page + 1}"
                headers["Link"] = f'<{following}>; rel="next", <{following}>; rel="last"'
            if self.headers.get("If-None-Match") == headers["ETag"]:
                return self._answer(304, b"", headers)
            if repository in state.truncated:
                body = body[: len(body) // 2]
            return self._answer(200, body, headers, break_off=repository in state.broken_off)

        def _answer(self, status: int, body: bytes, headers: dict[str, str], *, break_off: bool = False) -> None:
            state.asked.append((self.path, status, {name.lower(): value for name, value in self.headers.items()}))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 304:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if break_off else body)

        def log_message(self, *args: Any) -> None:
            return None

    return Handler
