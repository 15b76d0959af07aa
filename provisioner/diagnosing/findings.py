"""Findings: what ``doctor`` says is wrong, with at most one primary cause."""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.compat import StrEnum


class Severity(StrEnum):
    """How bad it is: an error stops the work, a warning costs speed or memory, an info is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Safety(StrEnum):
    """What a fix may do: nothing but reads, changes that can be undone, or changes that cannot."""

    READ_ONLY = "read-only"
    REVERSIBLE = "reversible"
    DESTRUCTIVE = "destructive"


class Repair(StrEnum):
    """How ``doctor --fix`` repairs: by the command as it stands, by the flash-attn that planning chooses, or by a copy elsewhere.

    Of the second kind ``command`` is what is done where planning has none: flash-attn is optional, and Unsloth goes on without.
    The third kind comes last, and what is examined afterwards is the copy.
    """

    COMMAND = "command"
    FLASH_ATTN = "flash-attn"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do about a finding: a sentence, and the command if there is one.

    ``automatic`` says that ``doctor --fix`` may do it by itself, once the user has agreed; ``repair`` says how. ``safety`` is that of the
    command, ``moved_to`` the interpreter of the environment after it, where that is another.
    """

    text: str
    command: str | None = None
    safety: Safety = Safety.READ_ONLY
    automatic: bool = False
    repair: Repair = Repair.COMMAND
    moved_to: str | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; ``code`` is stable, ``evidence`` quotes what was seen, ``explains`` lists codes that follow from it."""

    code: str
    severity: Severity
    primary: bool
    title: str
    evidence: tuple[str, ...] = ()
    fix: Fix | None = None
    explains: tuple[str, ...] = ()
    source: str | None = None
