"""Undo what terminals, logs, trackers and chat programs do to a pasted report, and keep its lines."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cached_property

LINE_LIMIT = 100_000
"""Characters kept of one line: compile commands reach 10 kB, base64 blobs and minified files are larger and hold no facts."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\u241b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\u200b-\u200f\u2028\u2029]")
_SPACES = re.compile(r"[\u00a0\u2000-\u200a\u202f\u3000]")
_FULL_WIDTH = {"：": ": ", "（": "(", "）": ")", "，": ", ", "＝": "=", "；": "; "}
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w +.-]*$|^\s*</?(?:details|summary|pre|code|br|p)\s*/?>\s*$", re.IGNORECASE)
_TAGS = re.compile(r"</?(?:details|summary|pre|code|b|i|em|strong)>", re.IGNORECASE)
_QUOTE = re.compile(r"^(?:[ ]{0,3}>(?!>>)[ ]?)+")
_PREFIXES = (
    re.compile(r"#\d+ (?:\d+\.\d+ )?(?=.)"),  # BuildKit: "#4 3570.9 "
    re.compile(
        r"\d{1,5}\.\d{1,3}(?:[ ]{1,8})(?=\S)(?!/|MB|GB|kB|MiB|GiB|%)(?=.*[A-Za-z│×╰━=])"
    ),  # BuildKit's failure extract: "255.9   "
    re.compile(r"\[(?:rank|default)_?\d+\]:[ ]?"),  # torchrun
    re.compile(r"\d+: (?=\[?rank|Traceback|  File )"),  # srun -l
    re.compile(r"\([A-Za-z_][\w.]*(?:[ ]+(?:pid|rank|ip|TP\d|DP\d|EP\d)[=\w., ]*)+\)[ ]?"),  # Ray and vLLM workers
    re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?[ ]"),  # CI logs
    re.compile(r"(?:INFO|WARNING|ERROR|DEBUG|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[\w./-]+:\d+\] ?"),  # vLLM's logger
    re.compile(r"\[\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[^\]]*\] ?"),  # sglang's logger
    re.compile(r"\[(?:build|proc|driver|cmake|main)\] (?=.)"),  # an editor's CMake output
    re.compile(r"(?:stdout|stderr|out|err)[ ]?[|:]\s(?=.)"),
)

_PREFIX_STARTS = ("#", "[", "(", "INFO ", "WARNING ", "ERROR ", "DEBUG ", "CRITICAL", "stdout", "stderr", "out", "err")
"""How a line with a prefix begins, where it does not begin with a digit."""


@dataclass(frozen=True)
class CleanText:
    """A cleaned report: ``lines`` without prefixes; ``text`` joins them."""

    lines: tuple[str, ...]

    @cached_property
    def text(self) -> str:
        """All lines, joined by newlines."""
        return "\n".join(self.lines)

    @cached_property
    def lower(self) -> str:
        """The text in lower case, for cheap tests of whether a word occurs at all."""
        return self.text.lower()


def clean(text: str) -> CleanText:
    """Return ``text`` without colours, quotes, fences, log prefixes, entities and odd spaces; one entry per line."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x1b" in text or "\u241b" in text:
        text = _ANSI.sub("", text)
    text = _CONTROL.sub("", text)
    if not text.isascii():
        text = _SPACES.sub(" ", text)
        for wide, narrow in _FULL_WIDTH.items():  # six replacements take a twentieth of str.translate's time
            text = text.replace(wide, narrow)
    if "&" in text:
        text = html.unescape(text)
    lines = (_clean_line(line[:LINE_LIMIT]) for line in text.split("\n"))
    return CleanText(tuple(line for line in lines if line is not None))


def _clean_line(line: str) -> str | None:
    line = line.rstrip()
    if not line:
        return line
    if "`" in line or "~" in line or "<" in line:
        if _FENCE.match(line):
            return None
        line = _TAGS.sub("", line)
    if ">" in line[:4]:
        line = _QUOTE.sub("", line)
    return _without_prefix(line)


def _without_prefix(line: str) -> str:
    """Take log prefixes off; a worker's prefix may be followed by its logger's, hence two rounds."""
    start = line.lstrip()[:8]
    if not (start[:1].isdigit() or start.startswith(_PREFIX_STARTS)):
        return line
    for _ in range(3):
        stripped = line.lstrip(" ")
        for prefix in _PREFIXES:
            if match := prefix.match(stripped):
                line = stripped[match.end() :]
                break
        else:
            return line
    return line
