"""A JSON document of our own inside the text: what ``provision detect``, ``doctor`` or the emitted script printed."""

from __future__ import annotations

import json
from typing import Any

from provisioner.machine.facts import Machine

_LARGEST = 4 * 1024 * 1024


def find_machine(text: str) -> Machine | None:
    """Return the `Machine` of the first JSON object in ``text`` that has a ``machine`` key; None when there is none."""
    from provisioner.codec import from_builtins
    from provisioner.errors import UsageError

    document = find_document(text)
    if document is None:
        return None
    try:
        return from_builtins(document["machine"], Machine, what="machine")
    except UsageError:
        return None


def find_document(text: str) -> dict[str, Any] | None:
    """Return the first JSON object in ``text`` with a ``machine`` object in it."""
    if '"machine"' not in text or len(text) > _LARGEST:
        return None
    decoder = json.JSONDecoder()
    position = text.find("{")
    for _ in range(50):
        if position < 0:
            return None
        try:
            found, _ = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("machine"), dict):
            return found
        position = text.find("{", position + 1)
    return None
