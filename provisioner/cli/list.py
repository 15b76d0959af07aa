"""``provision list``: the environments and what they hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.codec import to_builtins

if TYPE_CHECKING:
    from provisioner.environments.store import Environment

COLUMNS = ("name", "recipe", "python", "torch", "cuda", "flash-attn", "proved", "prefix")


@click.command("list")
@speaking
def command(output: Output, offline: bool, yes: bool) -> None:
    """List the environments made by provision, with their stack and whether they were proved."""
    from provisioner import paths
    from provisioner.environments import store

    environments, broken = store.survey()
    if output.as_json:
        rows = [
            {"name": item.name, "prefix": str(item.prefix), "python": str(item.python), "manifest": to_builtins(item.manifest)}
            for item in environments
        ]
        output.document(environments=rows, broken=broken)
        return
    for name in broken:
        output.say(f"{name} is broken: provision create {name} --replace, or provision remove {name}")
    if not environments:
        output.say(f"no environments in {paths.envs_dir()}; make one: provision create unsloth_env")
        return
    for line in lines(environments, output.width()):
        output.say(line)


def lines(environments: Sequence[Environment], width: int | None = None) -> Iterator[str]:
    """Yield the table of environments; where it is wider than ``width``, each prefix gets a line of its own."""
    table = [COLUMNS, *(_row(item) for item in environments)]
    widths = [max(len(row[column]) for row in table) for column in range(len(COLUMNS))]
    below = width is not None and sum(widths) + 2 * len(COLUMNS) > width
    for row in table:
        padded = [text.ljust(wide) for text, wide in zip(row, widths, strict=True)]
        yield "  ".join(padded[:-1] if below else padded).rstrip()
        if below and row is not COLUMNS:
            yield f"  {row[-1]}"


def _row(environment: Environment) -> tuple[str, ...]:
    plan, receipt = environment.manifest.plan, environment.manifest.receipt
    return (
        environment.name,
        "+".join((plan.recipe, *plan.overlays)),
        plan.python,
        plan.torch,
        plan.cuda or "-",
        plan.flash_attn.version if plan.flash_attn else f"- ({plan.attention})",
        "not run" if receipt is None else receipt.verdict,
        str(environment.prefix),
    )
