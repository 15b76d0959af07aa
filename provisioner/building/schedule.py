"""How many units run at once: as many as fit into memory by their measured peaks, never more than the CPUs.

Units are of two weights: the backward units ("heavy", 6.3 GB each) and the rest. Two numbers describe a schedule, jobs in all
and heavy jobs among them, and ninja keeps both by ``-j`` and a pool; so the sum of peaks stays within the budget by
construction, for any order in which units end. Among the pairs that fit, the one with the shortest forecast is taken.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from provisioner.building.costs import LINK
from provisioner.building.graph import Unit

TEMPORARY_MIB_PER_JOB = 300
"""Intermediate files of one nvcc (preprocessed source, PTX, cubins): 60–250 MiB seen with 2.8.3.post2, 2026-11-24."""

OBJECT_MIB = 8
"""An object file: 2–8 MiB for each unit and arch (measured units, 2026-11-24)."""


@dataclass(frozen=True, slots=True)
class Jobs:
    """At most ``total`` units at once, at most ``heavy`` of them heavy."""

    total: int
    heavy: int

    def fewer(self) -> Jobs:
        """Return the next smaller schedule, for a retry after a unit was killed for memory."""
        return Jobs(max(1, self.total // 2), max(1, self.heavy // 2))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a build will cost: wall time with these jobs, CPU time, and the most memory held at once."""

    jobs: Jobs
    units: int
    wall_seconds: float
    cpu_seconds: float
    peak_mib: int
    temporary_mib: int


def peak_mib(units: Sequence[Unit], jobs: Jobs) -> int:
    """Return the most memory that ``jobs`` can hold at once: the largest peaks that may run together."""
    heavy = sorted((unit.cost.peak_mib for unit in units if unit.heavy), reverse=True)[: min(jobs.heavy, jobs.total)]
    light = sorted((unit.cost.peak_mib for unit in units if not unit.heavy), reverse=True)
    return sum(sorted([*heavy, *light], reverse=True)[: jobs.total])


def choose_jobs(units: Sequence[Unit], *, budget_mib: int, cpus: int, limit: int | None = None) -> Jobs:
    """Return the schedule with the shortest forecast whose peak fits into ``budget_mib``; one job at least, whatever fits.

    ``limit`` is the user's own ``--jobs``: an upper bound, never a reason to leave the budget.
    """
    most = max(1, min(cpus, limit or cpus, len(units)))
    fitting = [jobs for total in range(1, most + 1) if (jobs := _most_heavy(units, total, budget_mib))]
    return min(fitting, key=lambda jobs: (round(wall_seconds(units, jobs), 3), jobs.total, jobs.heavy), default=Jobs(1, 1))


def _most_heavy(units: Sequence[Unit], total: int, budget_mib: int) -> Jobs | None:
    """Return ``total`` jobs with as many heavy ones as fit into the budget, None when not even one does."""
    fitting = [Jobs(total, heavy) for heavy in range(1, total + 1) if peak_mib(units, Jobs(total, heavy)) <= budget_mib]
    return fitting[-1] if fitting else None


def wall_seconds(units: Sequence[Unit], jobs: Jobs) -> float:
    """Return how long the units take with ``jobs``, as ninja runs them: in order, a heavy one waits while its pool is full."""
    running: list[tuple[float, int, bool]] = []
    waiting = list(units)
    now, heavy = 0.0, 0
    while waiting or running:
        index = next((i for i, unit in enumerate(waiting) if not unit.heavy or heavy < jobs.heavy), None)
        if index is not None and len(running) < jobs.total:
            unit = waiting.pop(index)
            heavy += unit.heavy
            heapq.heappush(running, (now + unit.cost.seconds, len(waiting), unit.heavy))
            continue
        now, _, was_heavy = heapq.heappop(running)
        heavy -= was_heavy
    return now


def forecast(units: Sequence[Unit], jobs: Jobs) -> Forecast:
    """Return what compiling ``units`` with ``jobs`` will cost, the link included."""
    return Forecast(
        jobs=jobs,
        units=len(units),
        wall_seconds=round(wall_seconds(units, jobs) + LINK.seconds, 1),
        cpu_seconds=round(sum(unit.cost.seconds for unit in units) + LINK.seconds, 1),
        peak_mib=peak_mib(units, jobs),
        temporary_mib=jobs.total * TEMPORARY_MIB_PER_JOB + len(units) * OBJECT_MIB * 2,
    )
