"""Which interpreter a path means, and whether the checks can run in it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from provisioner import process
from provisioner.errors import UsageError

OLDEST = (3, 10)
"""The oldest Python that the child is written for (docs/verification.md)."""

SECONDS = 60.0
"""Limit of an interpreter's first answer; a cold network disk may need many."""

_HINT = "give --python PATH: an environment's bin/python or its folder"

_ANSWER = re.compile(r"(\d+) (\d+)\s*")


def find_interpreter(named: Path) -> Path:
    """Return the absolute path of the interpreter that ``named`` means: a program, a command on PATH, or an environment's folder.

    Links are kept: a venv's interpreter is one, and its own path makes it the venv's.
    Raise `UsageError` where there is none, or where it is no Python of `OLDEST` or later.
    """
    if named.is_dir():
        found = named / "bin" / "python"
    else:
        command = shutil.which(named) if len(named.parts) == 1 else None
        found = Path(command) if command else named
    if not found.is_file():
        raise UsageError(f"no interpreter at {found}", hints=[_HINT], code="no-interpreter")
    if not os.access(found, os.X_OK):
        raise UsageError(f"{found} may not be executed", hints=[_HINT], code="no-interpreter")
    _check_version(found)
    return found.absolute()


def _check_version(python: Path) -> None:
    code = "import sys; sys.stdout.write('%d %d' % tuple(sys.version_info[:2]))"  # runs in Python 2 as well
    result = process.run([python, "-E", "-s", "-c", code], timeout=SECONDS)
    answer = _ANSWER.fullmatch(result.out)
    if not result.ok or answer is None:
        said = result.err.strip().splitlines()[-1:] or [result.out.strip()[:200]]
        why = f"it did not answer within {SECONDS:.0f} s" if result.timed_out else said[0] or None
        raise UsageError(
            f"{python} does not run as a Python",
            why=why,
            hints=[_HINT],
            code="bad-python",
        )
    version = (int(answer[1]), int(answer[2]))
    if version < OLDEST:
        raise UsageError(
            f"{python} is Python {version[0]}.{version[1]}; the checks need {OLDEST[0]}.{OLDEST[1]} or later",
            hints=[f"what is installed there, without running it: provision inspect {python}"],
            code="python-too-old",
        )
