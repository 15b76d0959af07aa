"""An environment whose own Python does not start: nothing in it can be asked, so its files are."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import with_copies
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.machine.facts import Machine
from provisioner.process import run

START_SECONDS = 60.0
"""Limit of an interpreter's start without its packages; a cold network disk may need many."""

_HOME = re.compile(r"^home *= *(.*?) *$", re.MULTILINE)
_LIBRARY = re.compile(r"python(3\.\d{1,2})$")


def is_environment(python: Path) -> bool:
    """Say whether an interpreter's path is that of a virtual or a conda environment, whether or not it starts."""
    prefix = python.parent.parent
    return (prefix / "pyvenv.cfg").is_file() or (prefix / "conda-meta").is_dir()


def starts(python: Path) -> bool:
    """Say whether an interpreter itself runs; what cannot be examined in it is then another matter."""
    return run([python, "-I", "-S", "-c", "pass"], timeout=START_SECONDS).ok


def judge(python: Path, machine: Machine, why: str) -> Candidate:
    """Return the finding about the interpreter ``python`` of an environment, which does not start for the reason ``why``."""
    prefix = python.parent.parent
    broken = _dangling(python)
    evidence = (f"{python}: {why}", *([f"{broken} does not exist"] if broken else []), *_home(prefix))
    fix = _another(prefix, machine) or Fix(
        "make the environment anew: nothing on this machine can stand in for its Python", "provision create", Safety.REVERSIBLE
    )
    if broken or any("does not exist" in line for line in evidence):
        title = f"the Python that {prefix} was made from is gone"
        return Candidate("base-python-gone", 12, Severity.ERROR, title, evidence, fix, "PEP 405")
    return Candidate("interpreter-broken", 12, Severity.ERROR, f"the Python of {prefix} does not start", evidence, fix)


def _dangling(path: Path) -> Path | None:
    """The end of the chain of links, if nothing is there."""
    for _ in range(10):
        if not path.is_symlink():
            break
        path = path.parent / os.readlink(path)  # noqa: PTH115 - the text of the link
    return None if path.exists() else path


def _home(prefix: Path) -> tuple[str, ...]:
    """The directory of the base Python as a virtual environment states it, if nothing is there."""
    try:
        match = _HOME.search((prefix / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ()
    return (f"pyvenv.cfg: home = {match[1]}, which does not exist",) if match and not Path(match[1]).exists() else ()


def _another(prefix: Path, machine: Machine) -> Fix | None:
    """A virtual environment goes on with another Python of its minor version: compiled packages fit all of these."""
    minor = next((match[1] for path in prefix.glob("lib/python3.*") if (match := _LIBRARY.search(path.name))), None)
    if minor is None or not (prefix / "pyvenv.cfg").is_file():
        return None
    other = next(
        (one for one in machine.pythons if one.version.startswith(f"{minor}.") and not Path(one.path).is_relative_to(prefix)),
        None,
    )
    if other is None:
        return Fix(
            f"install Python {minor} again where it was, or make the environment anew",
            f"uv python install {minor}",
            Safety.REVERSIBLE,
        )
    shares = re.search(
        r"^include-system-site-packages *= *true",
        (prefix / "pyvenv.cfg").read_text(errors="replace"),
        re.MULTILINE | re.IGNORECASE,
    )
    words = [sys.executable, "-m", "uv", "venv", "--no-config", "--allow-existing", "--python", other.path, str(prefix)]
    words += ["--system-site-packages"] if shares else []
    text = f"let it go on with {other.path} ({other.version}): its packages stay"
    return Fix(text, with_copies(prefix, *words), Safety.REVERSIBLE, automatic=True)
