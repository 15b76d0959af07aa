"""How long `provision detect` takes, and what of it is neither the interpreter's start nor NVML's.

Prints medians of 20 runs in milliseconds: the whole process, an empty interpreter, NVML's library loading and `nvmlInit` (in a process
of its own), what is left (`own`), and the programs that detect started.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 20
SCRIPT = Path(sys.executable).with_name("provision")
COMMAND = [str(SCRIPT)] if SCRIPT.exists() else ["-m", "provisioner"]
"""What a user types: the installed script; ``-m`` has the interpreter find and load the package in another way, which takes longer."""

INIT = """
import time, ctypes
started = time.perf_counter()
try:
    library = ctypes.CDLL("libnvidia-ml.so.1")
    library.nvmlInit_v2()
    print((time.perf_counter() - started) * 1000)
except OSError:
    print(0.0)
"""
STARTED = """
import contextlib, io, sys
programs = []
sys.addaudithook(lambda event, arguments: programs.append(str(arguments[0])) if event == "subprocess.Popen" else None)
from provisioner.cli.app import _run
with contextlib.redirect_stdout(io.StringIO()):
    _run(["detect", "--json"])
print(" ".join(programs))
"""

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""An installed program has its bytecode; a checkout writes it in the first run, which is not counted."""


def process_ms(*words: str) -> float:
    """Return the median wall time of a process in milliseconds."""
    times = []
    for _ in range(1 + RUNS):
        started = time.perf_counter()
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, env=ENVIRONMENT)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times[1:])


def said(program: str) -> str:
    """Return what a Python program prints."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    whole, empty = process_ms(*COMMAND, "detect"), process_ms("-c", "pass")
    init = statistics.median(float(said(INIT)) for _ in range(RUNS))
    figures = {"whole_ms": whole, "interpreter_ms": empty, "nvml_init_ms": init, "own_ms": whole - empty - init}
    print(json.dumps({**{name: round(value, 1) for name, value in figures.items()}, "programs": said(STARTED).split()}, indent=2))


if __name__ == "__main__":
    main()
