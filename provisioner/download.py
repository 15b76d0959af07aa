"""The one way by which bytes from outside come in: retried, resumed, checked by size and sha256, put in place whole.

``http``, ``https`` and ``file`` URLs are served alike. Credentials in URLs never reach a message.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit, urlunsplit

from provisioner import paths, progress
from provisioner.errors import IntegrityError, SourceUnreachable, UsageError
from provisioner.exclusive import exclusive

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
ATTEMPTS = 4
BLOCK = 1024 * 1024

offline: ContextVar[bool] = ContextVar("offline", default=False)
"""True while no network may be used (``--offline``); ``file`` URLs still work."""

at_hand: ContextVar[Mapping[str, Path] | None] = ContextVar("at_hand", default=None)
"""Local copies by the URL that a lock gives for each, while a bundle is open: they are read whatever mirrors are set."""

credentials: ContextVar[Mapping[str, tuple[str, str]] | None] = ContextVar("credentials", default=None)
"""User and password by host (with its port), from the addresses in the user's settings: locks keep addresses without them."""

MIRRORS_VARIABLE = "PROVISION_MIRRORS"
"""Pairs ``PREFIX=REPLACEMENT`` separated by white space, e.g. ``https://github.com=https://mirror.example/github``."""


mirrors: ContextVar[tuple[tuple[str, str], ...]] = ContextVar("mirrors", default=())
"""Pairs (prefix, replacement) of a chosen mirror (``--mirror``); the user's variable goes before them."""

INDEX_FILE = re.compile(r"https://[^/]+/packages(/[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{60}/[^/]+)")
"""A file of the package index, wherever it is served: its mirrors keep this path, which holds the file's hash."""

INDEX_FILES = "index-files:"
"""The prefix in `mirrors` that stands for every URL of the form `INDEX_FILE`."""


def mirror_pairs() -> tuple[tuple[str, str], ...]:
    """Return what is replaced by what, the user's own first; no prefix ends in a slash. Raise `UsageError` for a pair that is none."""
    pairs = [*map(_stated_pair, os.environ.get(MIRRORS_VARIABLE, "").split()), *mirrors.get()]
    return tuple((prefix.rstrip("/"), replacement.rstrip("/")) for prefix, replacement in pairs)


def _stated_pair(text: str) -> tuple[str, str]:
    prefix, _, replacement = text.partition("=")
    if "://" not in replacement or not ("://" in prefix or prefix == INDEX_FILES):
        raise UsageError(
            f"{MIRRORS_VARIABLE} has a part that is no PREFIX=REPLACEMENT: {redact(text)}",
            hints=[f"{MIRRORS_VARIABLE}='https://github.com=https://mirror.example/github'"],
            code="bad-mirrors",
        )
    return prefix, replacement


def mirrored(url: str) -> str:
    """Return where ``url`` is really fetched from: a bundle's copy, or else the user's mirrors replace its beginning.

    Locks keep the canonical URL.
    """
    if (copy := (at_hand.get() or {}).get(url)) is not None:
        return copy.as_uri()
    for prefix, replacement in mirror_pairs():
        if url.startswith(prefix + "/"):
            return replacement + url[len(prefix) :]
        if prefix == INDEX_FILES and (match := INDEX_FILE.fullmatch(url)):
            return replacement + match[1]
    return url


def canonical(url: str, beside: str) -> str:
    """Return the canonical URL of a file that was found at ``url``, on the mirror of the site on which ``beside`` lies."""
    for prefix, replacement in mirror_pairs():
        if beside.startswith(prefix + "/"):
            return prefix + url[len(replacement) :] if url.startswith(replacement + "/") else url
    return url


def redact(url: str) -> str:
    """Return ``url`` without user name, password and query."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))


def without_credentials(url: str) -> str:
    """Return ``url`` without user name and password: as it may be written down."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file as lower-case hex."""
    import hashlib

    value = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            value.update(block)
    return value.hexdigest()


def check_file(path: Path, *, sha256: str | None, size: int | None = None) -> None:
    """Raise `IntegrityError` unless ``path`` has this sha256 and size (each checked when given)."""
    if size is not None and (found := path.stat().st_size) != size:
        raise IntegrityError(f"{path.name}: {found} bytes, expected {size}", why="the file is truncated or another one")
    if sha256 is not None and (found_hash := file_sha256(path)) != sha256.lower():
        raise IntegrityError(
            f"{path.name}: sha256 {found_hash}, expected {sha256.lower()}",
            why="the file was changed after it was locked, or the transfer broke it",
            hints=[
                "delete the file and run the command again",
                "if it stays so, the source is not to be trusted: `provision lock` anew",
            ],
        )


def fetch(url: str, target: Path, *, sha256: str | None = None, size: int | None = None, label: str | None = None) -> Path:
    """Bring ``url`` to ``target`` and return ``target``; a file already there with the right sha256 is kept.

    A broken transfer continues where it stopped (HTTP ranges); of several that want the same file at once, one fetches it and the others
    wait. Raise `SourceUnreachable` when nothing answers and `IntegrityError` when what came is not what was asked for; ``target`` is
    then untouched.
    """
    if _is_there(target, sha256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{(sha256 or 'unhashed')[:12]}.partial")
    with exclusive(_lock_of(partial), f"fetching {target.name}"):
        if _is_there(target, sha256):
            return target
        return _fetch(mirrored(url), target, partial, sha256=sha256, size=size, label=label)


def _is_there(target: Path, sha256: str | None) -> bool:
    return sha256 is not None and target.is_file() and file_sha256(target) == sha256.lower()


def _lock_of(partial: Path) -> Path:
    import hashlib

    return paths.cache_dir() / "locks" / f"{hashlib.sha256(str(partial.absolute()).encode()).hexdigest()[:16]}.lock"


def _fetch(url: str, target: Path, partial: Path, *, sha256: str | None, size: int | None, label: str | None) -> Path:
    with progress.task(label or target.name, total=size, unit="B") as task:
        if urlsplit(url).scheme == "file":
            _copy_local(url, partial, task)
        else:
            _transfer(url, partial, task)
    try:
        check_file(partial, sha256=sha256, size=size)
    except IntegrityError:
        partial.unlink(missing_ok=True)
        raise
    os.replace(partial, target)
    return target


def session() -> requests.Session:
    """Return what keeps a connection open between several `get_range`; its ``close`` ends it."""
    import requests

    return requests.Session()


def get_range(url: str, byte_range: str, *, session: requests.Session | None = None) -> tuple[bytes, int]:
    """Return (bytes, size of the whole file) for ``byte_range``, such as ``0-1023`` or ``-65536`` (the end).

    A ``session`` keeps the connection for the next range. An answer that breaks off is asked for again. Raise `SourceUnreachable`,
    with code ``ranges-unsupported`` where the server would send the whole file instead.
    """
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _one_range(url, byte_range, session)
        except requests.RequestException as error:
            if attempt == ATTEMPTS:
                raise SourceUnreachable(f"{redact(url)} broke off {ATTEMPTS} times: {_reason(error)}") from error
            time.sleep(2.0 ** (attempt - 1) / 2)
    raise AssertionError("unreachable")


def _one_range(url: str, byte_range: str, session: requests.Session | None) -> tuple[bytes, int]:
    headers = {"Range": f"bytes={byte_range}", "Accept-Encoding": "identity"}
    with _response(url, headers, READ_SECONDS, stream=True, accept=(200, 206), session=session) as response:
        total = response.headers.get("Content-Range", "").rpartition("/")[2]
        if response.status_code != 206 or not total.isdigit():
            raise SourceUnreachable(f"{redact(url)} serves no byte ranges", code="ranges-unsupported")
        return response.content, int(total)


def size_of(url: str) -> int | None:
    """Return the size in bytes of the file at ``url`` without fetching it, None where the server does not tell.

    Raise `SourceUnreachable` when nothing answers.
    """
    url = mirrored(url)
    if urlsplit(url).scheme == "file":
        source = Path(unquote(urlsplit(url).path))
        try:
            return source.stat().st_size
        except OSError as error:
            raise SourceUnreachable(f"cannot read {source}: {error.strerror or error}") from error
    try:
        return get_range(url, "0-0")[1]
    except SourceUnreachable as error:
        if error.code == "ranges-unsupported":
            return None
        raise


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: the status, the body as text (empty for 304), the headers with lower-case names, and the URL that answered."""

    status: int
    text: str
    headers: dict[str, str]
    url: str


def get_answer(
    url: str, *, headers: dict[str, str] | None = None, accept: tuple[int, ...] = (200,), timeout: float = READ_SECONDS
) -> Answer:
    """Return a small document with its status and headers, for conditional requests and pages.

    Raise `SourceUnreachable` when nothing answers, when the status is not in ``accept`` or when the body breaks off.
    """
    import requests

    with _response(mirrored(url), headers or {}, timeout, accept=accept, stream=True) as response:
        try:
            text = response.text
        except (requests.RequestException, OSError) as error:
            raise SourceUnreachable(f"{redact(url)} broke off: {_reason(error)}") from error
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Answer(response.status_code, text, headers, response.url)


def _copy_local(url: str, partial: Path, task: progress.Task) -> None:
    import errno
    import shutil

    source = Path(unquote(urlsplit(url).path))
    try:
        shutil.copyfile(source, partial)
    except OSError as error:
        if paths.refuses(error) and not (error.errno in (errno.EACCES, errno.EPERM) and error.filename == str(source)):
            error.filename, error.filename2 = str(partial), None
            raise
        raise SourceUnreachable(f"cannot read {source}: {error.strerror or error}") from error
    task.advance(partial.stat().st_size)


def _transfer(url: str, partial: Path, task: progress.Task) -> None:
    import requests

    for attempt in range(1, ATTEMPTS + 1):
        try:
            _continue_transfer(url, partial, task)
            return
        except (requests.RequestException, OSError) as error:
            if paths.refuses(error):
                error.filename = error.filename or str(partial)
                raise
            if attempt == ATTEMPTS:
                raise SourceUnreachable(
                    f"{redact(url)} broke off {ATTEMPTS} times: {_reason(error)}",
                    hints=["run the same command again: it continues where it stopped"],
                ) from error
            time.sleep(2.0 ** (attempt - 1) / 2)


def _continue_transfer(url: str, partial: Path, task: progress.Task) -> None:
    done = partial.stat().st_size if partial.exists() else 0
    headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={done}-"} if done else {})}
    with _response(url, headers, READ_SECONDS, stream=True, accept=(200, 206, 416)) as response:
        if response.status_code == 416:  # all of it is here already, or it shrank: the hash decides
            return
        appending = response.status_code == 206
        if length := response.headers.get("Content-Length"):
            task.set_total(int(length) + (done if appending else 0))
        if appending:
            task.advance(done)
        # Nothing was asked to be packed: this header tells what the file is (Apache's x-gzip).
        response.raw.headers.pop("Content-Encoding", None)
        with partial.open("ab" if appending else "wb") as file:
            for block in response.iter_content(BLOCK):
                file.write(block)
                task.advance(len(block))


def answers(url: str, *, timeout: float) -> int:
    """Return the HTTP status, 200 to 399, with which ``url`` (or its mirror) answers; no body is read.

    Raise `SourceUnreachable` for any other status, and when nothing answers within ``timeout`` seconds.
    """
    with _response(mirrored(url), {}, timeout, stream=True, accept=range(200, 400)) as response:
        return response.status_code


@contextmanager
def _response(
    url: str,
    headers: dict[str, str],
    timeout: float,
    *,
    stream: bool = False,
    accept: Container[int] = (200,),
    session: requests.Session | None = None,
) -> Iterator[requests.Response]:
    import requests

    shown = redact(url)
    if offline.get():
        raise SourceUnreachable(f"{shown} is needed, but --offline forbids it", code="offline", hints=["leave --offline out"])
    try:
        get = session.get if session else requests.get
        auth = (credentials.get() or {}).get(urlsplit(url).netloc)
        response = get(url, headers=headers, timeout=(min(CONNECT_SECONDS, timeout), timeout), stream=stream, auth=auth)
    except requests.ConnectionError as error:
        raise _unreached(url, error) from error
    except requests.Timeout as error:
        raise SourceUnreachable(f"{urlsplit(url).hostname} did not answer within {timeout:.0f} s") from error
    with response:
        progress.detail(f"asked ({response.elapsed.total_seconds():.1f} s, {response.status_code}): {shown}")
        if response.status_code not in accept:
            refused = response.status_code in (401, 403)
            hints = (
                ["put its user and password into ~/.netrc, or into the index URL of your pip or uv settings"] if refused else []
            )
            raise SourceUnreachable(f"{shown} answered {response.status_code} {response.reason}", hints=hints)
        yield response


def _unreached(url: str, error: requests.RequestException) -> SourceUnreachable:
    """Return the error for a host that no connection was made to, naming the proxy where one is set for it."""
    from requests.utils import get_environ_proxies, select_proxy

    host = urlsplit(url).hostname
    if proxy := select_proxy(url, get_environ_proxies(url)):
        return SourceUnreachable(
            f"cannot reach {host} through the proxy {redact(proxy)}: {_reason(error)}",
            why="the proxy does not answer, or does not let this host through",
            hints=["correct HTTPS_PROXY, or add the host to NO_PROXY if it needs none"],
        )
    return SourceUnreachable(
        f"cannot reach {host}: {_reason(error)}",
        why="no network, a firewall, or a proxy that is not set",
    )


def _reason(error: BaseException) -> str:
    """Return the innermost reason, without the URL (it may carry credentials)."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return str(error).rsplit(":", 1)[-1].strip() or type(error).__name__
