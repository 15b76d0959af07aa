"""What a lock was asked for, kept in it: to check it or to move one package means to choose again with the same wishes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from provisioner import codec
from provisioner.locking.values import Lock
from provisioner.planning.values import Request

REQUEST = "provision-request"

PINS = {"python": "python", "torch": "torch", "cuda": "cuda", "flash-attn": "flash_attn"}
"""The fields of a request that pin one package, by the package's name."""


def recorded(request: Request | None) -> str | None:
    """Return what was asked for as JSON, what was left open left out; None when all was."""
    if request is None:
        return None
    open_ones = codec.to_builtins(Request())
    stated = codec.to_builtins(dataclasses.replace(request, offline=False))
    wishes = {name: value for name, value in stated.items() if value != open_ones[name]}
    return json.dumps(wishes, separators=(",", ":"), sort_keys=True) if wishes else None


def requested(lock: Lock) -> Request:
    """Return what a lock was asked for; an open request where it does not say. Raise `UsageError` when it was edited to be none."""
    text = lock.metadata.get(REQUEST)
    return codec.from_json(text, Request, what=f"the lock's {REQUEST}") if text else Request()


def asked_again(lock: Lock, now: Request, moving: Iterable[str] = ()) -> Request:
    """Return the lock's request with what is stated now in its place; pins of packages that are to move are dropped."""
    before = requested(lock)
    dropped: dict[str, None] = {PINS[name]: None for name in moving if name in PINS}
    before = dataclasses.replace(before, **dropped)  # type: ignore[arg-type]
    open_one = Request()
    stated = {
        field.name: getattr(now, field.name)
        for field in dataclasses.fields(Request)
        if getattr(now, field.name) != getattr(open_one, field.name)
    }
    stated["packages"] = tuple(dict.fromkeys((*before.packages, *now.packages)))
    return dataclasses.replace(before, **stated)
