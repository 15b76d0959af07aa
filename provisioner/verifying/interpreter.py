"""Which interpreter a path means, and whether the checks can run in it."""

from __future__ import annotations

import re
from pathlib import Path

from provisioner import process
from provisioner.errors import UsageError
from provisioner.machine.interpreter import HINT, existing_python

OLDEST = (3, 10)
"""The oldest Python that the child is written for (docs/verification.md)."""

SECONDS = 60.0
"""Limit of an interpreter's first answer; a cold network disk may need many."""

_ANSWER = re.compile(r"(\d+) (\d+)")


def find_interpreter(named: Path) -> Path:
    """Return the absolute path of the interpreter that ``named`` means, as `existing_python` does.

    Raise `UsageError` where there is none, or where it is no Python of `OLDEST` or later.
    """
    found = existing_python(named)
    _check_version(found)
    return found


def _check_version(python: Path) -> None:
    code = "import sys; sys.stdout.write('%d %d' % tuple(sys.version_info[:2]))"  # runs in Python 2 as well
    result = process.run([python, "-E", "-s", "-c", code], timeout=SECONDS)
    answer = _ANSWER.fullmatch(result.last_line)
    if not result.ok or answer is None:
        said = result.err.strip().splitlines()[-1:] or [result.out.strip()[:200]]
        why = f"it did not answer within {SECONDS:.0f} s" if result.timed_out else said[0] or None
        raise UsageError(
            f"{python} does not run as a Python",
            why=why,
            hints=[HINT],
            code="bad-python",
        )
    version = (int(answer[1]), int(answer[2]))
    if version < OLDEST:
        raise UsageError(
            f"{python} is Python {version[0]}.{version[1]}; the checks need {OLDEST[0]}.{OLDEST[1]} or later",
            hints=[f"what is installed there, without running it: provision inspect {python}"],
            code="python-too-old",
        )
