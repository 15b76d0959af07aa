"""`provision lock` beside `conda-lock lock`: the same input in one run, the time of both, and whether they choose the same versions.

    python benchmarks/lock.py

conda-lock solves with its vendored resolvers: its list of manylinux tags is completed (4.0.3 lacks ``_2_27``, which torch's CUDA wheels
have), and conda itself is benchmarks/conda_on_snapshot.py, so that both solve the conda part with the same solver and the same metadata. Both ask the
package index of this machine's settings. CPU seconds are those of the process and all that it started; cold is with empty caches, warm is
the median of three more runs.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from provisioner.indexes import read_index_settings
from provisioner.locking.conda_lock_file import read_lock

ROOT = Path(__file__).resolve().parents[1]
CONDA = ("python 3.12.*", "cuda-version 12.8.*", "cuda-nvcc", "cuda-cudart-dev", "gxx_linux-64 <15", "ninja", "pip")
PIP = ("torch==2.8.0", "unsloth", "xformers", "bitsandbytes")
WARM_RUNS = 3

OURS = f"""
import os, sys
from pathlib import Path
from provisioner.indexes import read_index_settings
from provisioner.locking.conda_lock_file import write_lock
from provisioner.locking.lock import LockOptions, make_lock
from provisioner.machine.facts import Driver, Machine, Platform
from provisioner.planning.values import Plan, Route
plan = Plan("benchmark", Route.NONE, "3.12", "2.8.0", "12.8", None, requirements={PIP!r}, conda_specs={CONDA!r})
machine = Machine(platform=Platform(machine="x86_64", glibc="2.28"), driver=Driver(cuda="12.8"))
write_lock(make_lock(plan, machine, read_index_settings(), LockOptions()), Path(sys.argv[1]))
os._exit(0)  # as the command line leaves: py-rattler can crash in the interpreter's end
"""

THEIRS = """
import sys
from conda_lock import pypi_solver
pypi_solver.MANYLINUX_TAGS[-1:] = ["_2_27", pypi_solver.MANYLINUX_TAGS[-1]]
from conda_lock.conda_lock import main
main(sys.argv[1:])
"""

VIRTUAL = """
subdirs:
  linux-64:
    packages:
      __glibc: "2.28"
      __cuda: "12.8"
      __linux: "5.10"
      __unix: "0"
      __archspec: 1 x86_64
"""


@dataclass(frozen=True)
class Cost:
    """What one run took, in seconds."""

    wall: float
    cpu: float


def timed(command: list[str], environ: dict[str, str], folder: Path) -> Cost:
    """Run ``command`` and return what it took; end the benchmark when it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != 0:
        sys.exit(f"{command[:4]} failed:\n{run.stdout[-2000:]}{run.stderr[-4000:]}")
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def environment(home: Path) -> dict[str, str]:
    """Return the variables of a user whose caches are all below ``home``."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    caches = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PROVISION_CACHE_DIR": str(home / "cache/provision")}
    return {**kept, **caches, "PYTHONPATH": str(ROOT)}


def prepare(folder: Path) -> None:
    """Write conda-lock's input, and the shim as a program."""
    url = read_index_settings().url
    rows = ["channels: [conda-forge]", "platforms: [linux-64]", "pip-repositories:", f"  - {url}", "dependencies:"]
    rows += [*(f"  - {spec}" for spec in CONDA), "  - pip:", *(f"      - {spec}" for spec in PIP)]
    (folder / "environment.yml").write_text("".join(f"{row}\n" for row in rows))
    (folder / "virtual.yml").write_text(VIRTUAL)
    (folder / "mapping.json").write_text("{}")
    shim = folder / "conda"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "benchmarks/conda_on_snapshot.py"} "$@"\n')
    shim.chmod(0o755)


def theirs(folder: Path) -> list[str]:
    """Return conda-lock's command line."""
    words = ["lock", "--conda", str(folder / "conda"), "--no-mamba", "-f", "environment.yml", "-p", "linux-64"]
    words += ["--virtual-package-spec", "virtual.yml", "--pypi_to_conda_lookup_file", (folder / "mapping.json").as_uri()]
    return [sys.executable, "-c", THEIRS, *words, "--lockfile", "theirs-lock.yml"]


def measured(command: list[str], environ: dict[str, str], folder: Path, made: str) -> tuple[Cost, Cost]:
    """Return what the cold run and the median warm run took; each makes its lock anew."""
    costs = []
    for _ in range(1 + WARM_RUNS):
        (folder / made).unlink(missing_ok=True)
        costs.append(timed(command, environ, folder))
        print(f"{made}: {costs[-1].wall:.2f} s, {costs[-1].cpu:.2f} CPU s", file=sys.stderr, flush=True)
    warm = costs[1:]
    return costs[0], Cost(statistics.median(cost.wall for cost in warm), statistics.median(cost.cpu for cost in warm))


def versions(path: Path) -> dict[tuple[str, str], str]:
    """Return the version of every package of a lock by manager and name."""
    return {(package.manager, package.name.replace("_", "-")): package.version for package in read_lock(path).packages}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="provision-benchmark-") as name:
        folder = Path(name)
        prepare(folder)
        ours = measured([sys.executable, "-c", OURS, "ours-lock.yml"], environment(folder / "ours"), folder, "ours-lock.yml")
        other = measured(theirs(folder), environment(folder / "theirs"), folder, "theirs-lock.yml")
        mine, conda_lock = versions(folder / "ours-lock.yml"), versions(folder / "theirs-lock.yml")
    print(f"{'':<26}{'cold CPU s':>11}{'cold wall s':>12}{'warm CPU s':>11}{'warm wall s':>12}")
    for label, (cold, warm) in (("provision lock", ours), ("conda-lock lock", other)):
        print(f"{label:<26}{cold.cpu:>11.2f}{cold.wall:>12.2f}{warm.cpu:>11.2f}{warm.wall:>12.2f}")
    (cold, warm), (their_cold, their_warm) = ours, other
    ratios = (their_cold.cpu / cold.cpu, their_cold.wall / cold.wall, their_warm.cpu / warm.cpu, their_warm.wall / warm.wall)
    print(f"{'times less':<26}" + "".join(f"{ratio:>{width}.1f}" for ratio, width in zip(ratios, (11, 12, 11, 12), strict=True)))
    both = sorted(mine.keys() & conda_lock.keys())
    differing = [key for key in both if mine[key] != conda_lock[key]]
    print(f"{len(both)} packages in both, {len(differing)} of them in different versions")
    for manager, package in differing:
        print(f"  {manager} {package}: {mine[manager, package]} here, {conda_lock[manager, package]} there")
    for label, only in (("provision", mine.keys() - conda_lock.keys()), ("conda-lock", conda_lock.keys() - mine.keys())):
        if only:
            print(f"only by {label}: {', '.join(sorted(f'{manager} {package}' for manager, package in only))}")


if __name__ == "__main__":
    main()
