"""From what a child measured to checks: the child reports facts, what passes is decided here."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from typing import Any

from provisioner.verifying.child_process import KEPT, ChildRun
from provisioner.verifying.failures import classify, is_refusal, of_import
from provisioner.verifying.receipt import Check, Outcome

DETAIL_LIMIT = 400

_ABOVE_PACKAGE = re.compile(r"/[^\s:'\"(]*/(?:site-packages/|lib/python3\.\d+/|(?=provisioner/verifying/child/))")
_HOME = re.compile(r"/(?:home|Users)/[^\s/:'\"]+|/root(?=/)")


def judge(run: ChildRun, *, device: int | None = None) -> tuple[Check, ...]:
    """Return the checks of one child: those that ended, the one that it died in, and as skipped those that it never reached."""
    begun = {event["name"]: event for event in run.events if event["event"] == "begin"}
    checks = [_ended(begun[event["name"]], event, device) for event in run.events if event["event"] == "end"]
    checks += [
        Check(event["name"], Outcome.SKIPPED, event["detail"], device=device) for event in run.events if event["event"] == "skip"
    ]
    if not run.finished:
        checks.append(_death(run, device))
    known = {check.name for check in checks}
    checks += list(_unreached(run, known, device))
    return tuple(checks)


def _ended(begin: dict[str, Any], end: dict[str, Any], device: int | None) -> Check:
    name, seconds = begin["name"], end["seconds"]
    said = end.get("said", "")
    if classify(said) == "stub-kernels":
        return Check(name, Outcome.FAILED, shorten(said), "stub-kernels", seconds=seconds, device=device)
    if end["status"] == "raised":
        return _raised(begin, end, device)
    if begin["refused"] is not None and begin["refusal"] == "required":
        detail = f"{begin['refused']} is not claimed, yet {begin['call']} computed something"
        return Check(name, Outcome.FAILED, detail, "not-refused", seconds=seconds, device=device)
    if "limit" not in end:
        return Check(name, Outcome.PASSED, shorten(str(end.get("detail", ""))), seconds=seconds, device=device)
    error, limit = end["error"], end["limit"]
    right = error is not None and limit is not None and error <= limit
    outcome, code = (Outcome.PASSED, None) if right else (Outcome.FAILED, "wrong-numbers")
    return Check(name, outcome, end.get("detail", ""), code, error, limit, seconds, device)


def _raised(begin: dict[str, Any], end: dict[str, Any], device: int | None) -> Check:
    name, kind, text = begin["name"], end["type"], end["text"]
    shown = shorten(f"{kind}: {text}")
    if begin["refused"] is not None and _accepted_refusal(begin, kind, text):
        return Check(name, Outcome.EXPECTED_REFUSAL, shown, seconds=end["seconds"], device=device)
    if begin["call"].startswith("import "):
        code = of_import(begin["call"].removeprefix("import "), kind, text)
    else:
        code = classify(f"{kind}: {text}") or "call-failed"
    where = f" (at {shorten(end['where'])})" if end.get("where") else ""
    return Check(name, Outcome.FAILED, shown + where, code, seconds=end["seconds"], device=device)


def _accepted_refusal(begin: dict[str, Any], kind: str, text: str) -> bool:
    """A refusal of an import must speak of the missing GPU; an unknown reason is a broken package."""
    if begin["call"].startswith("import "):
        return any(word in text.lower() for word in ("accelerator", "gpu", "cuda")) and classify(text) in (
            None,
            "cuda-unavailable",
        )
    return is_refusal(kind, text)


def _death(run: ChildRun, device: int | None) -> Check:
    """Return the failed check of a child that did not come to its end: hung, crashed, or stopped by an error of its own."""
    running = run.running
    name = running["name"] if running else "verification process"
    call = f"{running['call']}: " if running else ""
    place = f", in {run.place}" if run.place else ""
    output = f"{run.said}\n{run.result.err[:KEPT]}\n{run.result.err[KEPT:][-KEPT:]}"
    if run.result.timed_out or "Timeout (" in run.dump:
        what = "the time limit of all checks was reached" if run.result.timed_out else "no return within its limit"
        return Check(name, Outcome.FAILED, shorten(f"{call}{what}{place}"), "hang", device=device)
    code = classify(output) or _by_exit(run)
    detail = f"{call}{_exit_text(run.result.code)}{place}; {_last_words(output)}"
    return Check(name, Outcome.FAILED, shorten(detail), code, device=device)


def _by_exit(run: ChildRun) -> str:
    by_signal = run.result.code is not None and run.result.code < 0
    return "crashed" if by_signal or run.running is not None else "call-failed"


def _exit_text(code: int | None) -> str:
    if code is None:
        return "the interpreter could not be started"
    if code == -signal.SIGKILL:
        return "ended by SIGKILL: the kernel, out of memory (dmesg says so), unless somebody did"
    if code < 0:
        known = {number.value: number.name for number in signal.Signals}
        return f"ended by {known.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}"


def _unreached(run: ChildRun, known: set[str], device: int | None) -> Iterator[Check]:
    reason = run.last("ended").get("detail") or "the process had ended"
    for name in run.last("plan").get("names", ()):
        if name not in known:
            yield Check(name, Outcome.SKIPPED, f"not run: {reason}", device=device)


def _last_words(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip() and not line.startswith("@check ")]
    return lines[-1].strip() if lines else "no output"


def shorten(text: str) -> str:
    """Return the text on one line and not too long, files named from their package or home on: whose machine it was tells nothing."""
    text = _HOME.sub("~", _ABOVE_PACKAGE.sub("", " ".join(text.split())))
    return text if len(text) <= DETAIL_LIMIT else text[: DETAIL_LIMIT - 1] + "…"
