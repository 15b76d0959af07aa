"""``provision plan``: what would be installed on this machine (or another), and why."""

from __future__ import annotations

import click

from provisioner import paths
from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.cli.selection import Selection, selecting

IN_DOCUMENT = 20_000
"""How many candidates a JSON document carries at most; the index has about 8,000 wheels."""


@click.command("plan")
@click.option("--explain", is_flag=True, help="Show every candidate with its reason, the whole wheel index included.")
@selecting
@speaking
def command(selection: Selection, explain: bool, output: Output, offline: bool, yes: bool) -> None:
    """Choose recipe, Python, torch, CUDA and flash-attn for a machine, and say why.

    Nothing is installed and no network is used. Exit code 3: nothing that exists would work; the reasons are printed.
    """
    from dataclasses import replace

    from provisioner.errors import NoRoute
    from provisioner.planning.catalog import load_catalog
    from provisioner.planning.plan import make_plan

    catalog = load_catalog(selection.recipe_dirs, wheelhouse=paths.wheelhouse_dir())
    try:
        plan = make_plan(selection.machine, selection.request, catalog)
    except NoRoute as error:
        if explain and not output.as_json:
            _say_candidates(output, error.details.get("candidates", []))
        raise
    if explain:
        from provisioner.planning.survey import survey

        rest = survey(selection.machine, selection.request, catalog, plan.candidates)
        plan = replace(plan, candidates=(*plan.candidates, *rest)[:IN_DOCUMENT])
    if output.as_json:
        output.document(machine=selection.machine, plan=plan)
        return
    from provisioner.cli.plan_text import candidate_lines, plan_lines

    for line in plan_lines(selection.machine, plan):
        output.prose(line)
    if explain:
        output.say()
        for line in candidate_lines(plan.candidates):
            output.prose(line)


def _say_candidates(output: Output, stated: list[dict[str, object]]) -> None:
    """Print the candidates that a refusal carries."""
    from provisioner.cli.plan_text import candidate_lines
    from provisioner.codec import from_builtins
    from provisioner.planning.values import Candidate

    for line in candidate_lines(from_builtins(stated, list[Candidate], what="candidates")):
        output.say(line)
