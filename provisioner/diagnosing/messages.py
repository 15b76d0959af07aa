"""What programs print when something is wrong: data in ``data/messages.toml``, matched against a cleaned text.

Where a message is also in the knowledge base (``known_as``), its threads are taken from there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from provisioner.compat import tomllib
from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.machine.report.cleaning import CleanText

QUOTES = 3
"""Matching lines quoted per message."""

QUOTE_LENGTH = 300


@dataclass(frozen=True, slots=True)
class Message:
    """One message: ``rank`` says how close to a root cause it is (lower is closer), ``words`` are literals that must occur."""

    code: str
    rank: int
    pattern: str
    words: tuple[str, ...]
    title: str
    fix: str
    command: str | None = None
    safety: Safety = Safety.READ_ONLY
    severity: Severity = Severity.ERROR
    known_as: tuple[str, ...] = ()
    threads: tuple[str, ...] = ()
    source: str | None = None


@lru_cache(maxsize=1)
def all_messages() -> tuple[Message, ...]:
    """Return the catalogue in the file's order."""
    from provisioner.codec import from_builtins

    data = tomllib.loads(files("provisioner.diagnosing").joinpath("data/messages.toml").read_text(encoding="utf-8"))
    return tuple(from_builtins(entry, Message, what=f"message {entry.get('code')}") for entry in data["error"])


@lru_cache(maxsize=1)
def _compiled() -> tuple[tuple[Message, re.Pattern[str]], ...]:
    return tuple((message, re.compile(message.pattern)) for message in all_messages())


def match(report: CleanText) -> tuple[Candidate, ...]:
    """Return a candidate for every message that the text holds, with the lines that show it."""
    found = []
    for message, pattern in _compiled():
        for text in (report, report.unwrapped):
            if text and any(word in text.lower for word in message.words) and (evidence := _evidence(text.text, pattern)):
                found.append(_candidate(message, evidence))
                break
    return tuple(found)


def _evidence(text: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
    """The lines on which the matches end (an error is the last line of its traceback), without repetitions."""
    quotes: dict[str, None] = {}
    for hit in pattern.finditer(text):
        last = hit.end() - len(hit[0]) + len(hit[0].rstrip()) - 1
        start = text.rfind("\n", 0, max(last, 0)) + 1
        end = text.find("\n", max(last, 0))
        quotes.setdefault(text[start : end if end >= 0 else None].strip()[:QUOTE_LENGTH])
        if len(quotes) == QUOTES:
            break
    return tuple(quote for quote in quotes if quote)


def _candidate(message: Message, evidence: tuple[str, ...]) -> Candidate:
    return Candidate(
        code=message.code,
        rank=message.rank,
        severity=message.severity,
        title=message.title,
        evidence=evidence,
        fix=Fix(message.fix, message.command, message.safety),
        source=source_of(message),
    )


def source_of(message: Message) -> str | None:
    """Return where the message was seen: its own source or threads, else those of the knowledge base."""
    if message.source:
        return message.source
    if message.threads:
        return ", ".join(message.threads[:2])
    return ", ".join(thread for name in message.known_as for thread in _known().get(name, ())[:2]) or None


@lru_cache(maxsize=1)
def _known() -> dict[str, tuple[str, ...]]:
    from provisioner.knowledge import error_catalogue

    return {entry.id: tuple(entry.threads) for entry in error_catalogue.entries()}
