"""Scores reports against what is true of them: facts by fact, primary code against ``error_class``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioner.diagnosing.reports import diagnose_report
from provisioner.machine.facts import Machine

WSL = {"1": True, "2": True, "no": False, None: None}


@dataclass
class Score:
    """Counts per fact, and the misses in words."""

    right: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    invented: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of facts, or codes, that are right."""
        total = sum(self.right.values()) + sum(self.wrong.values())
        return sum(self.right.values()) / total if total else 1.0

    def table(self, title: str) -> str:
        """The score as text."""
        rows = [f"{title}: {self.share:.2%} right, {sum(self.invented.values())} invented"]
        for name in sorted({*self.right, *self.wrong}):
            rows.append(f"  {name:<28}{self.right[name]:>5} right {self.wrong[name]:>4} wrong {self.invented[name]:>4} invented")
        return "\n".join(rows + [f"  {miss}" for miss in self.misses])


def cases(folder: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return name, report and expectation of every case in ``folder``."""
    found = []
    for expected in sorted(folder.glob("*/expected.json")):
        with expected.with_name("report.txt").open(encoding="utf-8", errors="replace", newline="") as file:
            found.append((expected.parent.name, file.read(), json.loads(expected.read_text(encoding="utf-8"))))
    return found


def stated(machine: Machine) -> dict[str, Any]:
    """Return the facts of a machine under the names of the cases."""
    software = machine.software
    gpus = Counter((gpu.name, gpu.compute_capability) for gpu in machine.gpus)
    return {
        "gpus": sorted(map(str, gpus.items())),
        "driver": machine.driver.version,
        "driver_cuda": machine.driver.cuda,
        "os": machine.platform.os,
        "glibc": machine.platform.glibc,
        "wsl": WSL[machine.platform.wsl],
        "python": software.python,
        "torch": software.torch,
        "torch_cuda": software.torch_cuda,
        "nvcc": software.nvcc,
        "flash_attn": software.flash_attn,
    }


def expected_facts(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the expected facts in the same shape; a fact that a case does not mention is not scored, null means not stated."""
    found = dict(facts)
    if "gpus" in found:
        found["gpus"] = sorted(str(((gpu["name"], gpu["compute_capability"]), gpu["count"])) for gpu in facts["gpus"])
    return found


def score(folder: Path) -> tuple[Score, Score]:
    """Return the scores of facts and of codes over all cases in ``folder``."""
    facts, codes = Score(), Score()
    for name, text, expected in cases(folder):
        machine, findings = diagnose_report(text)
        want = expected_facts(expected["facts"])
        _compare(facts, name, {key: value for key, value in stated(machine).items() if key in want}, want)
        primary = next((finding.code for finding in findings if finding.primary), "none")
        _compare(codes, name, {expected["error_class"]: primary}, {expected["error_class"]: expected["error_class"]})
        if expected["error_class"] == "none" and primary != "none":
            codes.invented["none"] += 1
    return facts, codes


def _compare(into: Score, name: str, got: dict[str, Any], want: dict[str, Any]) -> None:
    for key, value in got.items():
        if value == want[key]:
            into.right[key] += 1
            continue
        into.wrong[key] += 1
        into.misses.append(f"{name}: {key} is {value!r}, should be {want[key]!r}")
        if want[key] in (None, []):
            into.invented[key] += 1


def tables(scores: Iterable[tuple[str, Score]]) -> str:
    """Return all scores as text."""
    return "\n\n".join(one.table(title) for title, one in scores)


if __name__ == "__main__":  # python -m tests.diagnosing.scoring FOLDER: the tables of any folder of cases
    import sys

    for folder in sys.argv[1:]:
        print(tables(zip(("facts", "primary cause"), score(Path(folder)), strict=True)))
