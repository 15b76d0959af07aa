"""Entry of the child: ``python -I …/child/__main__.py WORK``, with the job in ``WORK/job.json``.

``-I`` keeps the user's site directory, ``PYTHONPATH`` and the working directory out, and the environment's own packages in.
The sibling modules are put under their full names by hand, so that the environment needs no copy of this package
and a module of theirs can never shadow one of the environment's.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from types import ModuleType


def _make_importable(here: Path) -> None:
    for name, places in (
        ("provisioner", []),
        ("provisioner.verifying", []),
        ("provisioner.verifying.child", [str(here)]),
    ):
        package = ModuleType(name)
        package.__path__ = places
        sys.modules[name] = package


FILE_BYTES = 1 << 30
"""No file of a check's is as large; a library that prints without end fills no disk."""


def _limit_files() -> None:
    """Make writes beyond `FILE_BYTES` fail with an error."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = FILE_BYTES if hard == resource.RLIM_INFINITY else min(FILE_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))


def main(work: Path) -> None:
    """Carry out the stage that the job names, reporting into ``work``."""
    job = json.loads((work / "job.json").read_text())
    sys.path[:0] = job["paths"]
    _limit_files()
    from provisioner.verifying.child.protocol import Ended, Reporter

    reporter = Reporter(work, check_seconds=job["check_seconds"])
    if job["stage"] == "imports":
        from provisioner.verifying.child import imports as stage
    elif job["stage"] == "kernels":
        from provisioner.verifying.child import kernels as stage  # type: ignore[no-redef]
    elif job["stage"] == "libraries":
        from provisioner.verifying.child import libraries as stage  # type: ignore[no-redef]
    else:
        from provisioner.verifying.child import finetuning as stage  # type: ignore[no-redef]
    reporter.emit("loaded", seconds=round(time.time() - job["started"], 2))
    try:
        stage.run(job, reporter)
    except Ended as reason:
        reporter.emit("ended", detail=str(reason))
    reporter.emit("finished")
    sys.stderr.flush()
    os._exit(0)  # a thread that a library left running would keep the process


if __name__ == "__main__":
    _make_importable(Path(__file__).resolve().parent)
    main(Path(sys.argv[1]))
