"""Pasted reports: the facts are right, none is invented, and the root cause is named, over real ones."""

from __future__ import annotations

import html
import random
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.codec import from_json, to_json
from provisioner.diagnosing.findings import Finding, Severity
from provisioner.diagnosing.reports import diagnose_report
from provisioner.machine.facts import Machine
from provisioner.machine.report import decode
from tests.diagnosing.scoring import cases, score, stated, tables

OWN = Path(__file__).with_name("reports")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "cases" / "dev"


@pytest.mark.parametrize("folder", [OWN, SHARED], ids=["own", "shared"])
def test_facts_and_causes_of_real_reports_are_right_and_none_is_invented(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder} is not beside this checkout")
    facts, codes = score(folder)
    sys.stdout.write(tables([("facts", facts), ("primary cause", codes)]))
    assert facts.share >= 0.98, facts.table("facts")
    assert not facts.invented, facts.table("facts")
    assert codes.share >= 0.95, codes.table("primary cause")
    assert not codes.invented["none"], codes.table("primary cause")


def _texts() -> list[str]:
    return [text for folder in (OWN, SHARED) if folder.is_dir() for _, text, _ in cases(folder)]


def _mutated(texts: list[str], choose: random.Random) -> str:
    """A real report cut, spliced with another, with lines lost, bytes changed, wrapped, quoted or prefixed."""
    text = choose.choice(texts)[: choose.choice((300, 2000, 8000))]
    match choose.randrange(8):
        case 0:
            other = choose.choice(texts)[:4000]
            at = choose.randrange(len(text) + 1)
            text = text[:at] + other + text[at:]
        case 1:
            start = choose.randrange(len(text) + 1)
            text = text[start : start + choose.randrange(2000)]
        case 2:
            text = "\n".join(line for line in text.split("\n") if choose.random() > 0.3)
        case 3:
            text = "".join(chr(choose.randrange(1, 0x3000)) if choose.random() < 0.03 else letter for letter in text)
        case 4:
            width = choose.choice((20, 60, 79))
            text = "\r\n".join(text[i : i + width] for i in range(0, len(text), width))
        case 5:
            text = "\n".join(f"{choose.choice(('> ', '[rank0]: ', '#4 3.2 ', '| '))}{line}" for line in text.split("\n"))
        case 6:
            text = "\n".join(choose.sample(text.split("\n"), len(text.split("\n"))))
        case _:
            text = text.replace("\n", choose.choice((" ", "\r", "\x1b[0m\n", "\u2028")))
    return text


def _check(text: str) -> None:
    machine, findings = diagnose_report(text)
    assert sum(finding.primary for finding in findings) <= 1
    assert all(finding.severity is Severity.ERROR for finding in findings if finding.primary)
    assert all(finding.evidence and finding.fix for finding in findings), findings
    assert from_json(to_json(machine), Machine) == machine


def test_a_damaged_report_is_read_without_an_error() -> None:
    texts, choose = _texts(), random.Random(20261124)
    for _ in range(400):
        _check(_mutated(texts, choose))


@pytest.mark.slow
def test_twenty_thousand_damaged_reports_are_read_without_an_error() -> None:
    texts, choose = _texts(), random.Random(7)
    for _ in range(20_000):
        _check(_mutated(texts, choose))


def _each_line(prefix: str) -> Callable[[str], str]:
    return lambda text: "\n".join(prefix + line for line in text.split("\n"))


HARMLESS: dict[str, Callable[[str], str]] = {
    "quoted": _each_line("> "),
    "quoted twice": _each_line("> > "),
    "CRLF": lambda text: text.replace("\r", "").replace("\n", "\r\n"),
    "coloured": lambda text: "\n".join(f"\x1b[32m{line}\x1b[0m" for line in text.split("\n")),
    "BuildKit": _each_line("#12 3570.9 "),
    "torchrun": _each_line("[rank0]: "),
    "compose": _each_line("web-1  | "),
    "Kubernetes": _each_line("2026-01-02T03:04:05.000000001Z stdout F "),
    "CI": _each_line("2026-01-02T03:04:05.0000001Z "),
    "srun": _each_line("0: "),
    "pdsh": _each_line("node07: "),
    "mpirun": _each_line("[1,0]<stderr>:"),
    "journal": _each_line("Nov 27 06:07:01 box python[1234]: "),
    "logging": _each_line("2026-01-02 03:04:05,678 - INFO - "),
    "times in brackets": _each_line("[2026-01-02 03:04:05] "),
    "entities": html.escape,
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "tabs before": _each_line("\t"),
    "zero-width spaces": lambda text: text.replace(":", ":\u200b"),
    "full-width colons": lambda text: text.replace(": ", "："),
    "fenced": lambda text: f"```text\n{text}\n```",
    "details": lambda text: f"<details>\n<summary>x</summary>\n\n```\n{text}\n```\n</details>",
    "HTML breaks": lambda text: text.replace("\n", "<br>"),
    "a byte order mark": lambda text: "\ufeff" + text,
    "padded": lambda text: "\n".join(line.ljust(200) for line in text.split("\n")),
    "words around": lambda text: f"Some words about torch and CUDA.\n\n{text}\n\nThanks for any help!",
    "UTF-16": lambda text: decode(text.encode("utf-16")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HARMLESS)
def test_facts_and_causes_survive_how_a_report_was_pasted(name: str) -> None:
    """What the report states is the same however it was quoted, prefixed or saved; nothing is added."""
    kept = lost = changed = total = 0
    for text in _texts():
        machine, findings = diagnose_report(text)
        other, others = diagnose_report(HARMLESS[name](text))
        before, after = stated(machine), stated(other)
        for fact, value in before.items():
            if value in (None, []):
                assert after[fact] == value, (fact, after[fact], text[:300])
            elif after[fact] == value:
                kept += 1
            else:
                lost += 1
        total += 1
        changed += _cause(findings) != _cause(others)
    assert kept / (kept + lost) >= 0.99
    assert changed <= 0.02 * total


def _cause(findings: tuple[Finding, ...]) -> str | None:
    return next((finding.code for finding in findings if finding.primary), None)


@pytest.mark.parametrize(
    "unit", ["a b\n", "\n", "GPU 0: x\n", "| a |\n", "  Killed", "C:\\a\\", "setup.py No module named 'torch'\n", '{"machine"']
)
def test_a_megabyte_of_anything_takes_a_few_times_what_splitting_it_into_words_takes(unit: str) -> None:
    assert _times_splitting(unit * (1_000_000 // len(unit))) < 6


def test_a_megabyte_of_a_real_build_log_takes_a_few_times_what_splitting_it_into_words_takes() -> None:
    """On two quiet cores of 2026-11-26 it was 0.6 s; a slow hour of the same machine takes twice that, for both."""
    texts = [text for text in _texts() if "nvcc" in text] or _texts()
    diagnose_report(texts[0])
    assert _times_splitting("\n".join(texts * (1 + 1_000_000 // len("\n".join(texts))))[:1_000_000]) < 4


def _times_splitting(text: str) -> float:
    """Return the CPU time of a diagnosis as a multiple of what ``shlex`` takes to split a megabyte of short words, the best of three each."""
    words = "hello world\n" * (250_000 // 12)
    pairs = [(_seconds(lambda: diagnose_report(text)), _seconds(lambda: list(shlex.shlex(words)))) for _ in range(3)]
    return min(mine for mine, _ in pairs) / min(theirs * 4 for _, theirs in pairs)


def _seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def test_the_last_line_is_not_the_cause_when_an_earlier_one_explains_it() -> None:
    text = "nvcc fatal   : Unsupported gpu architecture 'compute_90a'\nninja: build stopped\nPrecompiled wheel not found. Building from source...\nurllib.error.HTTPError: HTTP Error 404: Not Found\n"
    _, findings = diagnose_report(text)
    assert findings[0].code == "nvcc-arch-unknown"
    assert findings[0].primary
    assert "wheel-404-source-build" in findings[0].explains


def test_rocm_explains_the_missing_nvcc() -> None:
    _, findings = diagnose_report(
        "RuntimeError: flash_attn was requested, but nvcc was not found.\ntorch.__version__  = 1.13.1+rocm5.2\n"
    )
    assert findings[0].code == "rocm-not-cuda"
    assert findings[0].explains == ("cuda-home-missing",)


def test_an_empty_report_states_nothing_and_blames_nothing() -> None:
    machine, findings = diagnose_report("")
    assert machine == Machine()
    assert findings == ()
