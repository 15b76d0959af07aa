"""The live lists of release files, in the shape of GitHub's API (``GET /repos/OWNER/NAME/releases``).

Every page is asked for conditionally: a page that has not changed costs neither bytes nor the hourly allowance. Old releases do
get new files (v2.8.1 got wheels for torch 2.10 half a year later), so all pages are asked for, not the first alone.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from provisioner import download, paths
from provisioner.errors import SourceUnreachable
from provisioner.knowledge.wheel_lists import ReleaseFile, torch_minor

GITHUB_API = "https://api.github.com"
EVIDENCE = "releases API"
PAGES_AT_MOST = 200
BUSY = (500, 502, 503, 504)
"""What GitHub answers when a page with thousands of files took it too long; asking again helps."""
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Publisher:
    """Somebody who publishes wheels as release files; ``dump`` is a copy of the API's answer elsewhere, asked when the API fails."""

    source: str
    trust: str
    dump: str | None = None

    def api_list(self, api: str) -> str:
        """Return the URL of the first page of its releases."""
        return f"{api.rstrip('/')}/repos/{self.source}/releases?per_page=30"


PUBLISHERS = (
    Publisher("Dao-AILab/flash-attention", "official"),
    Publisher(
        "mjun0812/flash-attention-prebuild-wheels",
        "community",
        dump="https://mjunya.com/flash-attention-prebuild-wheels/data/releases.json",
    ),
)


class Asset(msgspec.Struct, frozen=True):
    """One file of a release; ``digest`` is ``sha256:…`` for files uploaded since mid-2025."""

    name: str
    browser_download_url: str
    size: int | None = None
    digest: str | None = None


class Release(msgspec.Struct, frozen=True):
    """One release with its files."""

    tag_name: str
    assets: tuple[Asset, ...] = ()
    draft: bool = False


class Page(msgspec.Struct, frozen=True):
    """A page as it was last seen: its ``ETag``, the URL of the next one, and its releases."""

    etag: str | None
    following: str | None
    releases: tuple[Release, ...]


def fetch(publisher: Publisher, *, api: str = GITHUB_API) -> tuple[ReleaseFile, ...]:
    """Return the flash-attn wheels that a publisher lists now, each with size and, where the list has it, sha256.

    Raises `SourceUnreachable` (code ``rate-limited`` when the allowance is used up, ``bad-list`` when the answer is no list of
    releases); a list is taken whole or not at all.
    """
    try:
        releases = _pages(publisher.api_list(api))
    except SourceUnreachable:
        if publisher.dump is None or download.offline.get() or api != GITHUB_API:
            raise
        releases = _pages(publisher.dump)
    today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    return tuple(
        ReleaseFile(
            asset.browser_download_url, publisher.source, publisher.trust, EVIDENCE, today, _sha256(asset.digest), asset.size
        )
        for release in releases
        if not release.draft
        for asset in release.assets
        if torch_minor(asset.name) is not None and _belongs(asset.browser_download_url, publisher)
    )


def _belongs(url: str, publisher: Publisher) -> bool:
    """Trust is the publisher's: a list that points elsewhere lends it to nobody."""
    parts = urlsplit(url)
    return parts.scheme == "https" and parts.path.startswith(f"/{publisher.source}/releases/download/")


def _pages(first: str) -> list[Release]:
    releases: list[Release] = []
    url: str | None = first
    for _ in range(PAGES_AT_MOST):
        if url is None:
            return releases
        page = _page(url)
        releases += page.releases
        url = page.following
    raise SourceUnreachable(f"{download.redact(first)} has more than {PAGES_AT_MOST} pages", code="bad-list")


def _page(url: str) -> Page:
    """Return one page: the kept one where the server says that it has not changed."""
    kept = _kept(url)
    headers = {"Accept": "application/vnd.github+json", **_authorization(url)}
    if kept is not None and kept.etag is not None:
        headers["If-None-Match"] = kept.etag
    answer = _ask(url, headers)
    if answer.status in (403, 429):
        raise _refused(url, answer)
    if answer.status == 304:
        if kept is None:
            raise SourceUnreachable(f"{download.redact(url)} answered 304 to a question without condition", code="bad-list")
        return kept
    try:
        releases = msgspec.json.decode(answer.text, type=tuple[Release, ...])
    except msgspec.MsgspecError as error:
        raise SourceUnreachable(
            f"{download.redact(url)} is not a list of releases: {error}",
            why="the transfer broke off, or a proxy answered in the server's place",
            code="bad-list",
        ) from error
    page = Page(answer.headers.get("etag"), _following(answer.headers.get("link", "")), releases)
    paths.write_atomic(_page_path(url), msgspec.json.encode(page))
    return page


def _ask(url: str, headers: dict[str, str]) -> download.Answer:
    for attempt in range(1, ATTEMPTS):
        answer = download.get_answer(url, headers=headers, accept=(200, 304, 403, 429, *BUSY))
        if answer.status not in BUSY:
            return answer
        time.sleep(0.5 * 2.0**attempt)
    return download.get_answer(url, headers=headers, accept=(200, 304, 403, 429))


def _kept(url: str) -> Page | None:
    try:
        return msgspec.json.decode(_page_path(url).read_bytes(), type=Page)
    except (OSError, msgspec.MsgspecError):
        return None


def _page_path(url: str) -> Path:
    return paths.cache_dir() / "knowledge" / "pages" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"


def _following(link: str) -> str | None:
    match = re.search(r'<([^>]+)>\s*;\s*rel="next"', link)
    return match[1] if match else None


def _authorization(url: str) -> dict[str, str]:
    """``GITHUB_TOKEN`` goes to GitHub's own API alone; a mirror gets ``PROVISION_RELEASES_TOKEN`` if that is set."""
    own = urlsplit(url)[:2] == urlsplit(GITHUB_API)[:2]
    token = os.environ.get("GITHUB_TOKEN" if own else "PROVISION_RELEASES_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _refused(url: str, answer: download.Answer) -> SourceUnreachable:
    if answer.headers.get("x-ratelimit-remaining") != "0" and answer.status != 429:
        return SourceUnreachable(f"{download.redact(url)} answered {answer.status}: access is refused")
    reset = answer.headers.get("x-ratelimit-reset", "")
    until = f" until {datetime.datetime.fromtimestamp(int(reset)).astimezone():%H:%M %Z}" if reset.isdigit() else ""
    return SourceUnreachable(
        f"{urlsplit(url).hostname} answers no more questions from here{until}",
        why="its allowance for requests without a token is used up",
        hints=["set GITHUB_TOKEN to any token of yours, without any rights", "or wait and run the command again"],
        code="rate-limited",
    )


def _sha256(digest: str | None) -> str | None:
    kind, _, value = (digest or "").partition(":")
    return value.lower() if kind == "sha256" and re.fullmatch(r"[0-9a-fA-F]{64}", value) else None
