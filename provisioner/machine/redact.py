"""Taking out of a capture what identifies a person or a single device: it is made to be pasted into an issue."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

KEPT_NAMES = frozenset(
    {
        "root",
        "user",
        "home",
        "host",
        "localhost",
        "ubuntu",
        "debian",
        "fedora",
        "linux",
        "python",
        "cuda",
        "nvidia",
        "conda",
        "admin",
    }
)
"""User and host names that identify nobody, and as words would damage what a capture says."""

ZERO_UUID = "00000000-0000-0000-0000-000000000000"

_PATTERNS = (
    (re.compile(r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"), ZERO_UUID),
    (
        re.compile(
            r"((?:Serial(?: Number)?|GPU PDI|Board ID|Host ID|serial)[ \t\"]*[:=][ \t\"]*)(?!N/A|\[N/A\])[^\s\",<|]+",
            re.IGNORECASE,
        ),
        r"\1REDACTED",
    ),
    (re.compile(r"(<(serial|board_serial|board_id|pdi)>)(?!N/A)[^<]*"), r"\1REDACTED"),
    (re.compile(r"\b(?:[0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}\b"), "00:00:00:00:00:00"),
    (re.compile(r"(\w+://)[^/\s:@\"]+:[^/\s@\"]+@"), r"\1REDACTED@"),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """The names to take out: the user's, the host's (each with its variants), and the home directory."""

    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    home: str | None = None


def identity_of_this_host() -> Identity:
    """Return the names of the user and host that this process runs as and on."""
    import socket

    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER", "USERNAME")}
    home = os.path.expanduser("~")
    users.add(os.path.basename(home))
    host = socket.gethostname()
    return Identity(tuple(sorted(users)), (host, host.partition(".")[0]), home)


def redactor(identity: Identity) -> Callable[[str], str]:
    """Return a function that takes serials, UUIDs, credentials, and the names of ``identity`` out of a text or a path.

    It maps equal text to equal text, so a path and the link to it still fit; applying it twice changes nothing more.
    """
    replacements = list(_PATTERNS)
    if identity.home and identity.home not in ("/", "/root"):
        replacements.append((re.compile(re.escape(identity.home) + r"(?![\w.-])"), "/home/user"))
    for names, stand_in in ((identity.hosts, "host"), (identity.users, "user")):
        for name in sorted(set(names), key=len, reverse=True):
            if len(name) > 1 and name.lower() not in KEPT_NAMES:
                replacements.append((re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])"), stand_in))

    def redact(text: str) -> str:
        for pattern, replacement in replacements:
            text = pattern.sub(replacement, text)
        return text

    return redact
