"""Frozen values to JSON and back, through msgspec: one codec for every value that passes between stages."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from provisioner.errors import UsageError

T = TypeVar("T")

SCHEMA = 1
"""The ``schema`` number of every JSON document; it grows when a documented name changes its meaning."""

BAD_DOCUMENT = (
    "write it again with the command that made it: a machine with `provision detect --json` or `provision capture DIR`",
)


def to_builtins(value: Any) -> Any:
    """Return ``value`` as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value, str_keys=True)


def to_json(value: Any, *, indent: int = 2) -> str:
    """Return ``value`` as JSON text with a final newline; keys keep their declared order."""
    raw = msgspec.json.encode(value)
    return msgspec.json.format(raw, indent=indent).decode() + "\n"


def from_builtins(data: Any, kind: type[T], *, what: str = "input") -> T:
    """Return ``data`` as a value of ``kind``. Raise `UsageError` naming the wrong field otherwise."""
    try:
        return msgspec.convert(data, kind, strict=True)
    except msgspec.ValidationError as error:
        raise UsageError(f"{what} is not valid: {error}", hints=BAD_DOCUMENT, code="bad-document") from error


def from_json(text: str | bytes, kind: type[T], *, what: str = "input") -> T:
    """Return the value that JSON ``text`` holds. Raise `UsageError` naming the wrong field otherwise."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} is not valid: {error}", hints=BAD_DOCUMENT, code="bad-document") from error


def read_json(path: Path, kind: type[T]) -> T:
    """Return the value in the JSON file ``path``. Raise `UsageError` when it is missing or malformed."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}",
            hints=["give the path of a file that exists and that you may read"],
            code="bad-document",
        ) from error
    return from_json(text, kind, what=str(path))


def digest(value: Any) -> str:
    """Return the sha256 (hex) of ``value``'s JSON with sorted keys: equal values, equal digests."""
    return hashlib.sha256(msgspec.json.encode(value, order="sorted")).hexdigest()
