"""Golden plans: one text file for each configuration. ``python -m tests.planning.golden_files`` writes them anew; review the diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from provisioner.cli.plan_text import plan_lines
from provisioner.errors import ProvisionError
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from tests.planning.configurations import CONFIGURATIONS, Configuration

FOLDER = Path(__file__).parent / "golden"
SHOWN = 5


def golden_text(configuration: Configuration) -> str:
    """Return the plan of a configuration as text: the choice, what goes in, the runners-up, the reasons against the rest."""
    return "\n".join(_lines(configuration)) + "\n"


def _lines(configuration: Configuration) -> Iterator[str]:
    try:
        plan = make_plan(configuration.machine, configuration.request, load_catalog())
    except ProvisionError as error:
        yield f"exit {error.exit_code}: {error.what} [{error.code}]"
        yield f"why: {error.why}"
        yield from (f"next: {hint}" for hint in error.hints)
        return
    yield from plan_lines(configuration.machine, plan)
    yield f"requirements {', '.join(plan.requirements)}"
    yield f"conda        {', '.join(plan.conda_specs)}"
    yield ""
    yield from (f"{c.rank}  {c.id} (torch {c.torch})" for c in plan.candidates if c.accepted and (c.rank or 0) <= SHOWN)
    codes = Counter(candidate.code for candidate in plan.candidates if not candidate.accepted)
    yield "rejected: " + (", ".join(f"{code} {count}" for code, count in sorted(codes.items())) or "none")


def write_all() -> None:
    """Write every golden file and remove those of configurations that are gone."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        path.unlink()
    for name, configuration in CONFIGURATIONS.items():
        (FOLDER / f"{name}.txt").write_text(golden_text(configuration), encoding="utf-8")


if __name__ == "__main__":
    write_all()
