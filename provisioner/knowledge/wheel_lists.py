"""The wheel index on disk: lists of release files, folded so that thousands of URLs take little room and read in milliseconds.

A shelf holds the files of one publisher, list and spelling of URLs. Files that differ in their Python tag alone share a line:
``[release, "flash_attn-2.8.3+cu12torch2.8cxx11abiTRUE-*-linux_x86_64.whl", "cp39 cp310=SHA256 cp311"]``. Folding and unfolding are exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote

import msgspec

from provisioner.knowledge import wheel_names

Line = tuple[str, str, str]
Place = tuple[str, str, str, str, str, str, str]

_TAGS = re.compile(r"-((?:cp\d+|py3)-[a-z0-9]+)-(?=[A-Za-z0-9_.]+\.whl$)")


class ReleaseFile(msgspec.Struct, frozen=True):
    """One wheel at one URL as a list states it; ``size`` is in bytes, ``date`` is the day of the list."""

    url: str
    source: str
    trust: str
    evidence: str
    date: str
    sha256: str | None = None
    size: int | None = None

    @property
    def release(self) -> str:
        """The release (git tag) that carries it, empty where its URL names none."""
        head = self.url.partition("?")[0].rpartition("/")[0]
        return unquote(head.rpartition("/")[2]) if "/releases/download/" in head else ""

    @property
    def filename(self) -> str:
        """The wheel's file name."""
        return unquote(self.url.partition("?")[0].rpartition("/")[2])


class Shelf(msgspec.Struct):
    """Files of one source whose URLs are ``base`` + release + ``/`` + name (``+`` written as ``plus``) + ``suffix``, by torch minor."""

    source: str
    trust: str
    evidence: str
    date: str
    base: str
    plus: str
    suffix: str
    torch: dict[str, list[Line]] = {}


class WheelLists(msgspec.Struct):
    """The index: the day of its newest list, and the shelves."""

    date: str
    shelves: list[Shelf]


def torch_minor(filename: str) -> str | None:
    """Return the torch line that a wheel is for, None for a name that is not a flash-attn wheel for CUDA."""
    name = wheel_names.parse(filename)
    return ".".join(name.torch.split(".")[:2]) if name else None


def fold(files: Iterable[ReleaseFile], *, date: str) -> WheelLists:
    """Return the index of ``files``. Files that are not flash-attn wheels are left out; of a URL stated twice the first counts."""
    shelves: dict[Place, Shelf] = {}
    lines: dict[Place, dict[Line, list[str]]] = {}
    seen: set[str] = set()
    for file in files:
        minor = torch_minor(file.filename)
        if minor is None or file.url in seen:
            continue
        seen.add(file.url)
        key, release = _place(file)
        if key not in shelves:
            shelves[key] = Shelf(*key, torch={})
        template, tag = _template(file.filename)
        lines.setdefault(key, {}).setdefault((minor, release, template), []).append(_token(tag, file))
    for key, shelf in shelves.items():
        for (minor, release, template), tokens in sorted(lines[key].items()):
            shelf.torch.setdefault(minor, []).append((release, template, " ".join(sorted(tokens))))
    return WheelLists(date, [shelves[key] for key in sorted(shelves)])


def unfold(lists: WheelLists) -> Iterator[ReleaseFile]:
    """Yield every file of the index."""
    for shelf in lists.shelves:
        for lines in shelf.torch.values():
            for line in lines:
                yield from files_of(shelf, line)


def files_of(shelf: Shelf, line: Line, python: str | None = None) -> Iterator[ReleaseFile]:
    """Yield the files that share a line of a shelf; with ``python`` (``cp312``) those of other plain tags are left out."""
    release, template, tokens = line
    written = quote(template, safe="+*").replace("+", shelf.plus)
    head, _, tail = (f"{shelf.base}{release}/{written}" if release else f"{shelf.base}{written}").partition("*")
    for token in tokens.split(" "):
        if python is not None and token.partition("=")[0] != python and "-" not in token:
            continue
        tag, sha256, size = _untoken(token)
        url = f"{head}{tag}{tail}{shelf.suffix}"
        yield ReleaseFile(url, shelf.source, shelf.trust, shelf.evidence, shelf.date, sha256, size)


def mentions(line: Line, python: str, platform: str) -> bool:
    """Say whether a line may hold a wheel for an interpreter tag and a platform, without parsing it; abi3 wheels may always fit."""
    processor = platform.rpartition("_")[2] if platform.startswith("win") else platform.partition("_")[2]
    return line[1].endswith(f"{processor}.whl") and (f"{python}" in line[2] or "abi3" in line[2])


def _place(file: ReleaseFile) -> tuple[Place, str]:
    address, mark, query = file.url.partition("?")
    head, _, tail = address.rpartition("/")
    base, release = f"{head}/", ""
    if "/releases/download/" in head:
        base, _, release = head.rpartition("/")
        base += "/"
    plus = "%2B" if "%2B" in tail else "+"
    return (file.source, file.trust, file.evidence, file.date, base, plus, mark + query), release


def _template(filename: str) -> tuple[str, str]:
    """``cp312-cp312`` is folded to ``cp312``; other pairs are kept whole."""
    match = _TAGS.search(filename)
    assert match is not None, filename  # fold() has parsed the name
    python, _, abi = match[1].partition("-")
    return f"{filename[: match.start()]}-*-{filename[match.end() :]}", python if python == abi else match[1]


def _token(tag: str, file: ReleaseFile) -> str:
    if file.sha256 is None and file.size is None:
        return tag
    return f"{tag}={file.sha256 or ''}" + (f":{file.size}" if file.size is not None else "")


def _untoken(token: str) -> tuple[str, str | None, int | None]:
    tag, _, known = token.partition("=")
    sha256, _, size = known.partition(":")
    return (tag if "-" in tag else f"{tag}-{tag}"), sha256 or None, int(size) if size else None
