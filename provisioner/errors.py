"""Every error a user can meet: a stable code, an exit code, what happened, why, and what to type next.

The exit codes are part of the command-line contract (README, "Exit codes"); one class owns each code.
"""

from __future__ import annotations

import errno
import re
from typing import Any, ClassVar


class ProvisionError(Exception):
    """Base of all errors that the command line renders instead of a traceback.

    ``what`` says what happened, ``why`` the likely cause, ``hints`` the commands or changes to try next, most
    promising first. ``code`` is stable and may be matched by scripts.
    """

    exit_code: ClassVar[int] = 2
    default_code: ClassVar[str] = "error"
    default_hints: ClassVar[tuple[str, ...]] = ()
    """What is worth trying after any error of the class, where none of its own is given."""

    def __init__(
        self,
        what: str,
        *,
        why: str | None = None,
        hints: tuple[str, ...] | list[str] = (),
        code: str | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.hints = tuple(hints) or self.default_hints
        self.code = code or self.default_code
        self.details = details or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the error as the ``error`` object of a ``--json`` document."""
        return {
            "code": self.code,
            "exit_code": self.exit_code,
            "what": self.what,
            "why": self.why,
            "hints": list(self.hints),
            **({"details": self.details} if self.details else {}),
        }


class Findings(ProvisionError):
    """``doctor`` or ``verify`` found a fault (exit 1)."""

    exit_code = 1
    default_code = "findings"


class UsageError(ProvisionError):
    """The request itself is wrong: an unknown name, a bad value, an impossible combination of options (exit 2)."""

    exit_code = 2
    default_code = "usage"


class NoRoute(ProvisionError):
    """Nothing that exists would work on this machine (exit 3)."""

    exit_code = 3
    default_code = "no-route"
    default_hints = ("`provision plan --explain` with the same options shows every candidate with its reason",)


class SourceUnreachable(ProvisionError):
    """A package index, channel or release server did not answer, or lacks the file (exit 4)."""

    exit_code = 4
    default_code = "source-unreachable"
    default_hints = (
        "check the network and HTTPS_PROXY, then run the same command again: what was fetched is kept",
        "or fetch through a mirror: PROVISION_MIRRORS='https://HOST=https://mirror.example'",
    )


class IntegrityError(ProvisionError):
    """A file is not what the lock says: its hash, size or signature is wrong (exit 5)."""

    exit_code = 5
    default_code = "integrity"
    default_hints = ("do not use that file: delete it and fetch it again, from its publisher if it stays so",)


class BuildFailed(ProvisionError):
    """A compile could not be started or did not finish (exit 6)."""

    exit_code = 6
    default_code = "build-failed"


class VerificationFailed(ProvisionError):
    """The environment was made, but does not do what it should (exit 7)."""

    exit_code = 7
    default_code = "verification-failed"


class Busy(ProvisionError):
    """Another process holds this environment (exit 8)."""

    exit_code = 8
    default_code = "busy"
    default_hints = ("wait for the other process, or see which it is: `ps -ef | grep provision`",)


EXIT_INTERRUPTED = 130

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_SAYS_FULL = re.compile("no space left|disk quota exceeded|file too large", re.IGNORECASE)
_REFUSED = {
    errno.EACCES: "this user may not",
    errno.EPERM: "the system does not permit it",
    errno.EROFS: "the file system is mounted read-only",
    errno.ENOENT: "there is no such place",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "a file of that name is in the way",
    errno.EISDIR: "it is a folder, not a file",
    errno.ENAMETOOLONG: "the name is too long for the file system",
    errno.ELOOP: "symbolic links lead in a circle",
}
"""What the system says about a place (errno.h) in a user's words."""


def says_full(said: str) -> bool:
    """Say whether a program failed because the disk, or the user's share of it, is full: strerror's words, which programs pass on."""
    return _SAYS_FULL.search(said) is not None


def full_disk(why: str, place: str = "") -> NoRoute:
    """Return the error of a disk without space; ``why`` is what the program at work said of it."""
    return NoRoute(
        f"no space is left{f' for {place}' if place else ''}",
        why=why,
        hints=[
            "free space there",
            "or name another place: PROVISION_CACHE_DIR for caches, PROVISION_DATA_DIR for environments, TMPDIR for temporary files",
        ],
        code="disk-or-tmp-full",
    )


def of_os_error(error: OSError) -> ProvisionError | None:
    """Return the error that a user can act on when the system refused a file or a disk is full; None for any other fault."""
    place = str(error.filename2 or error.filename or "")
    if error.errno in _FULL:
        return full_disk(
            "the disk, or what this user may write (`ulimit -f`, quota), is full; what was half-written is removed", place
        )
    if error.errno in _REFUSED and place:
        return UsageError(
            f"cannot use {place}",
            why=_REFUSED[error.errno],
            hints=["name a place where you may write files"],
            code="file-refused",
        )
    return None
