"""``provision list``: the environments and what they hold."""

from __future__ import annotations

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.codec import to_builtins


@click.command("list")
@speaking
def command(output: Output, offline: bool, yes: bool) -> None:
    """List the environments made by provision, with their stack and whether they were proved."""
    from provisioner import paths
    from provisioner.environments import store

    environments = store.all_environments()
    if output.as_json:
        rows = [
            {"name": item.name, "prefix": str(item.prefix), "python": str(item.python), "manifest": to_builtins(item.manifest)}
            for item in environments
        ]
        output.document(environments=rows)
        return
    if not environments:
        output.say(f"no environments in {paths.envs_dir()}; make one: provision create unsloth_env")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "recipe", "python", "torch", "cuda", "flash-attn", "proved", "prefix"):
        table.add_column(column, no_wrap=True)
    for item in environments:
        plan, receipt = item.manifest.plan, item.manifest.receipt
        proved = "not run" if receipt is None else "yes" if receipt.passed else "no"
        table.add_row(
            item.name,
            "+".join((plan.recipe, *plan.overlays)),
            plan.python,
            plan.torch,
            plan.cuda or "-",
            plan.flash_attn.version if plan.flash_attn else f"- ({plan.attention})",
            proved,
            str(item.prefix),
        )
    output.console().print(table)
