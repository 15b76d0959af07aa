"""Which Python: said outright, or visible in the paths and tags of tracebacks and builds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import python_of_tag

_SAID = (
    re.compile(r"^\s*Python\s+\d\.\d+\.\d+ \(you have (\d\.\d+\.\d+)"),  # xformers' complaint
    re.compile(r"^\s*Python (\d\.\d+\.\d+(?:rc\d+|[ab]\d+)?)\+? (?:[(|\[]|::)"),  # the interactive banner; Anaconda's `--version`
    re.compile(r"\bUsing (?:C?Python|python) (\d\.\d+(?:\.\d+)?)\b(?=\s*$|.{0,80}(?:environment|interpreter) at)"),  # uv
    re.compile(r"-- Found Python3?: \S+ \(found (?:suitable )?version \"(\d\.\d+\.\d+)\""),  # CMake
    re.compile(
        r"^\s*(?:[-*]{1,2}\s*)?(?:\*\*)?(?:[Pp]ython|PYTHON)(?: [Vv]ersion)?(?:\*\*)?\s*(?:[:=]+(?:\*\*)?\s*|\s)(?:[Pp]ython\s*)?v?(\d\.\d+(?:\.\d+)?)"
        r"\s*(?:\(.*\)(?: \[.*\])?|\|.*|, [A-Za-z].*)?$"
    ),
    re.compile(r"^\s*(?:sys\.version|Python [Vv]ersion)\s*[:=]\s*'?(\d\.\d+\.\d+)"),
)
_PATHS = re.compile(
    r"[/\\]lib(?:64)?/python(\d\.\d{1,2})[/:\s\"']|(?:^|[\s/\"'])python(\d\.\d{1,2})/(?:site|dist)-packages|/include/python(\d\.\d{1,2})\b|"
    r"(?:^|\s)(?:\S*/bin/)?python(\d\.\d{1,2})(?=\s+-?[\w./-])|"
    r"[/\\]Python(\d{2,3})[/\\]|\.Python\.(\d\.\d{1,2})_|\bpython(3\d{1,2})\.dll\b"
)
_TAGS = re.compile(r"\b(?:cpython-|cpython)(\d{2,3})(?=-|\.|/|\\|$|\s)|\.cp(3\d{1,2})-win_amd64\.pyd\b")
_GUESS = re.compile(r"flash_attn-\S+?-cp(\d{2,3})-cp\d{2,3}")
_SKIP = re.compile(r"^\s*\||^\s*\[conda\]|^\s*(?:Collecting|Downloading|Using cached)\b")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the Python version: stated, else the one that most paths name, else that of tags."""
    for line in report.lines:
        if "ython" in line or "PYTHON" in line:
            for pattern in _SAID:
                if match := pattern.search(line):
                    yield Claim("software.python", match[1], line.strip())
                    break
    yield from _visible(report)


def _visible(report: CleanText) -> Iterator[Claim]:
    paths: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    guesses: list[str] = []
    previous = ""
    for line in report.lines:
        if "ython" in line and not _SKIP.match(line):
            for path in _PATHS.finditer(line):
                found = next(group for group in path.groups() if group)
                paths[found if "." in found else python_of_tag(found)] += 1
        if "ython" in line or ".pyd" in line:
            tags.update(python_of_tag(match[1] or match[2]) for match in _TAGS.finditer(line))
        if (
            "flash_attn-" in line
            and ("Guessing wheel URL" in line or "Guessing wheel URL" in previous)
            and (match := _GUESS.search(line))
        ):
            guesses.append(python_of_tag(match[1]))
        if line.strip():
            previous = line
    for counter in (paths, tags):
        if counter:
            yield Claim("software.python", counter.most_common(1)[0][0], "paths in the text")
    if guesses:
        yield Claim("software.python", guesses[0], "Guessing wheel URL")
