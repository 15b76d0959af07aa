"""Undo what terminals, logs, trackers and chat programs do to a pasted report, and keep its lines."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from functools import cached_property

LINE_LIMIT = 100_000
"""Characters kept of one line: compile commands reach 10 kB, base64 blobs and minified files are larger and hold no facts."""

_ROW_LIMIT = 300
"""Characters up to which a line between bars may be a row of a Markdown table."""

_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])|\u241b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\u200b-\u200f\u2028\u2029]")
_BLANK_LINES = re.compile(r"\n{4,}")
_SPACES = re.compile(r"[\u00a0\u2000-\u200a\u202f\u3000]")
_FULL_WIDTH = {"：": ": ", "，": ", ", "；": "; "}
_FULL_WIDTH_ASCII = re.compile(r"[\uff01-\uff5e]")
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_TABLE_ROW = re.compile(r"^\s*\|\s*([^|\s\d](?:[^|\s]|[ ]{1,2}(?! ))*?)\s*\|\s*([^|\s][^|]*?)\s*\|\s*$")
"""Not a row of nvidia-smi cut short: that begins with an index, and has wide gaps."""

_FENCE = re.compile(r"^\s*(?:```|~~~)[\w +.-]*$|^\s*</?(?:details|summary|pre|code|br|p)\s*/?>\s*$", re.IGNORECASE)
_TAGS = re.compile(r"</?(?:details|summary|pre|code|b|i|em|strong)>", re.IGNORECASE)
_QUOTE = re.compile(r"^(?:[ ]{0,3}>(?!>>)[ ]?)+")
_PREFIXES = (
    re.compile(r"#\d+ (?:\d+\.\d+(?: |$))?(?=.|$)"),  # BuildKit: "#4 3570.9 "
    re.compile(
        r"\d{1,5}\.\d{1,3}(?:[ ]{1,8})(?=\S)(?!/|MB|GB|kB|MiB|GiB|%)(?=.*[A-Za-z│×╰━=])"
    ),  # BuildKit's failure extract: "255.9   "
    re.compile(r"\[(?:rank|default)_?\d+\]:[ ]?"),  # torchrun
    re.compile(r"\d+: (?=\[?rank|Traceback|  File )"),  # srun -l
    re.compile(r"\([A-Za-z_][\w.]*(?:[ ]+(?:pid|rank|ip|TP\d|DP\d|EP\d)[=\w., ]*)+\)[ ]?"),  # Ray and vLLM workers
    re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?[ ]"),  # CI logs
    re.compile(r"(?:INFO|WARNING|ERROR|DEBUG|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[\w./-]+:\d+\] ?"),  # vLLM's logger
    re.compile(r"\[\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d[^\]]*)?\] ?"),  # sglang's logger; ComfyUI's has no seconds
    re.compile(r"\[\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\](?:\[[\w.-]{1,40}\]){0,3}:? ?"),  # cuda_memtest: time, host, device
    re.compile(r"\[(?:build|proc|driver|cmake|main)\] (?=.)"),  # an editor's CMake output
    re.compile(r"(?:stdout|stderr|out|err)(?:[ ]?[|:]| [FP])\s(?=.)"),  # docker, and Kubernetes' "stdout F "
    re.compile(r"\[\d+,\d+\]<(?:stdout|stderr)>:[ ]?"),  # mpirun --tag-output
    re.compile(
        r"(?:- )?(?:[\w.]+ - )?(?:INFO|WARNING|ERROR|DEBUG|CRITICAL)(?: -|:[\w.]+:) ?"
    ),  # Python's logging, after its time
    re.compile(r"\| (?:INFO|WARNING|ERROR|DEBUG|CRITICAL|SUCCESS) +\| [\w.:<>]+ - "),  # loguru, after its time
    re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ [\w./@-]+(?:\[\d+\])?: "),  # the journal
)

_ROUNDS = 5
"""Prefixes that one line may carry: a scheduler's, a container's, a worker's, its logger's time and level."""

_MONTHS = ("Jan ", "Feb ", "Mar ", "Apr ", "May ", "Jun ", "Jul ", "Aug ", "Sep ", "Oct ", "Nov ", "Dec ")
_PREFIX_STARTS = ("#", "[", "(", "INFO", "WARNING", "ERROR", "DEBUG", "CRITICAL", "stdout", "stderr", "out", "err", *_MONTHS)
"""How a line with a prefix begins, where it does not begin with a digit."""

_SHARED_PREFIX = re.compile(r"[ ]{0,8}(?=[^\s|>]{0,40}\w)[^\s|>]{1,48}[ ]{0,8}(?:\||(?<=:)|>)(?:[ ]|$)")
"""A word before a bar, a colon or an arrow: the name of a container, a host or a worker where nearly all lines begin with it."""

_SHARED_LINES = 6
_SHARED_SHARE = 0.7
_NUMBERED_LINES = 3
"""How many lines, and which share of all, begin with the same word before it is a prefix; fewer where all do and it has a number: a judgement."""

_TIMES = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,9} -(?: |$)")
"""A logger that stamps each piece of a line (ComfyUI's) leaves times in its middle."""

_FLATTENED = re.compile(
    r"\s+(?=(?:Is debug build|CUDA used to build PyTorch|ROCM used to build PyTorch|OS|GCC version|Clang version|CMake version|Libc version|"
    r"Python version|Python platform|Is CUDA available|CUDA runtime version|CUDA_MODULE_LOADING set to|GPU models and configuration|"
    r"Nvidia driver version|cuDNN version|HIP runtime version|MIOpen runtime version|Is XNNPACK available|CPU|"
    r"Versions of relevant libraries)\s*:|GPU \d+: |\[(?:pip3?|conda)\] |PyTorch version\s*:)"
)
"""Where collect_env began a line, in a report that a tracker or a search engine wrote as one."""

_WIDTHS = (60, 250)
_CUT_LINES = 2
"""Widths of terminals, and how many different lines end exactly there before the text counts as cut by one: a judgement."""

_FLATTENED_TABLE = re.compile(r"(?<=[|+])[ ]+(?=[|+])")


@dataclass(frozen=True)
class CleanText:
    """A cleaned report: ``lines`` without prefixes; ``text`` joins them.

    ``unwrapped`` is the same report with the lines joined that a terminal cut at its width; None where none were.
    """

    lines: tuple[str, ...]
    unwrapped: CleanText | None = None

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
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("%20", " ").replace('\\"', '"')
    if "\x1b" in text or "\u241b" in text:
        text = _ANSI.sub("", text)
    text = _CONTROL.sub("", text)
    text = _BLANK_LINES.sub("\n\n\n", text)
    if not text.isascii():
        text = _SPACES.sub(" ", text)
        for wide, narrow in _FULL_WIDTH.items():  # six replacements take a twentieth of str.translate's time
            text = text.replace(wide, narrow)
        text = _FULL_WIDTH_ASCII.sub(lambda letter: chr(ord(letter[0]) - 0xFEE0), text)
    if "&" in text:
        text = html.unescape(text)
    if "<br" in text:
        text = _BREAK.sub("\n", text)
    lines = _dedented([line for part in text.split("\n") for line in _unflattened(part[:LINE_LIMIT])])
    lines = _dedented(_without_shared_prefix(lines))
    joined = _unwrapped(lines)
    return CleanText(_cleaned(lines), CleanText(_cleaned(joined)) if joined else None)


def _cleaned(lines: list[str]) -> tuple[str, ...]:
    return tuple(line for line in map(_clean_line, lines) if line is not None)


def _unwrapped(lines: list[str]) -> list[str] | None:
    """``lines`` joined where a terminal's width cut them: several different ones of exactly the greatest length, not rows of a table."""
    width = max(map(len, lines), default=0)
    if not _WIDTHS[0] <= width <= _WIDTHS[1]:
        return None
    cut = {line for line in lines if len(line) == width and line[-1] not in "|+-= "}
    if len(cut) < _CUT_LINES:
        return None
    joined: list[str] = []
    open_end = False
    for line in lines:
        if open_end:
            joined[-1] += line
        else:
            joined.append(line)
        open_end = line in cut
    return joined


def _unflattened(line: str) -> list[str]:
    """The lines of a collect_env report or of nvidia-smi's table that stand on one line."""
    if "CUDA used to build PyTorch" in line and "Python platform" in line:
        return _FLATTENED.sub("\n", line).split("\n")
    if "NVIDIA-SMI" in line and "Persistence-M" in line:
        return _FLATTENED_TABLE.sub("\n", line).split("\n")
    return [line]


def _dedented(lines: list[str]) -> list[str]:
    """Take off the indentation that all lines share: many formats begin their lines in the first column."""
    filled = [line for line in lines if line.strip()]
    if not filled or not all(line[0] in " \t" for line in filled):
        return lines
    indents = [line[: len(line) - len(line.lstrip(" \t"))] for line in filled]
    first, last = min(indents), max(indents)  # what these two share, all share
    shared = next(
        (at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), min(len(first), len(last))
    )
    return [line[shared:] for line in lines] if shared else lines


def _without_shared_prefix(lines: list[str]) -> list[str]:
    """Take off what nearly every line begins with: ``web-1  | ``, ``node07: ``."""
    first = next((match[0] for line in lines[:_SHARED_LINES] if (match := _SHARED_PREFIX.match(line))), None)
    if first is None:
        return lines
    bare = first.rstrip()
    filled = [line for line in lines if line.strip()]
    sharing = sum(line.startswith(bare) for line in filled)
    numbered = sharing == len(filled) >= _NUMBERED_LINES and any(letter.isdigit() for letter in bare)
    if not numbered and (sharing < _SHARED_LINES or sharing < _SHARED_SHARE * len(filled)):
        return lines
    return [
        line[len(first) :] if line.startswith(first) else line[len(bare) :] if line.startswith(bare) else line for line in lines
    ]


def _clean_line(line: str) -> str | None:
    line = line.rstrip()
    if not line:
        return line
    if line[:2] == "20" and " - " in line:
        line = _TIMES.sub("", line).rstrip()
    if "`" in line or "~" in line or "<" in line:
        if _FENCE.match(line):
            return None
        line = _TAGS.sub("", line)
    if ">" in line[:4]:
        line = _QUOTE.sub("", line)
    if (
        "|" in line[:4] and len(line) < _ROW_LIMIT and (row := _TABLE_ROW.match(line)) and row[1].strip("-:= ")
    ):  # a Markdown table of labels and values
        return f"{row[1]}: {row[2]}"
    line = _without_prefix(line)
    if line[:1] == ">":  # quoted by whoever pasted it, prefixed by what printed it
        line = _QUOTE.sub("", line)
    return _TIMES.sub("", line).rstrip() if line[:2] == "20" and " - " in line else line


def _without_prefix(line: str) -> str:
    """Take log prefixes off; a worker's prefix may be followed by its logger's, hence several rounds."""
    start = line.lstrip()[:8]
    if not (start[:1].isdigit() or start.startswith(_PREFIX_STARTS)):
        return line
    for _ in range(_ROUNDS):
        stripped = line.lstrip()
        for prefix in _PREFIXES:
            if match := prefix.match(stripped):
                line = stripped[match.end() :]
                break
        else:
            return line
    return line
