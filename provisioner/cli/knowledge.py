"""``provision knowledge``: what the program knows, from where and of which day, and the newest wheels."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking

NAMED_AT_MOST = 12


@click.group("knowledge", no_args_is_help=True)
def command() -> None:
    """Show what the choice rests on, or refresh the list of prebuilt wheels."""


@command.command("show")
@click.argument("table", required=False)
@speaking
def show(table: str | None, *, output: Output, offline: bool, yes: bool) -> None:
    """List the tables with their sources and days, or print the rows of TABLE."""
    from provisioner.errors import UsageError
    from provisioner.knowledge import tables

    if table is None:
        _show_all(output)
    elif table in tables.table_names():
        _show_rows(output, table)
    else:
        names = ", ".join(tables.table_names())
        raise UsageError(f"no such table: {table}", hints=[f"the tables are {names}"], code="unknown-table")


@command.command("update")
@click.option("--api", metavar="URL", envvar="PROVISION_RELEASES_API", help="A mirror of GitHub's API (default: GitHub itself).")
@click.option("--official-only", is_flag=True, help="Leave the community's list alone.")
@speaking
def update(api: str | None, official_only: bool, *, output: Output, offline: bool, yes: bool) -> None:
    """Refresh the wheel index from the live release lists and print the difference.

    GITHUB_TOKEN, if set, raises GitHub's allowance; it is sent to GitHub alone. A mirror gets PROVISION_RELEASES_TOKEN.
    """
    from provisioner.errors import UsageError
    from provisioner.knowledge import refresh, release_lists

    if api and urlsplit(api).scheme not in ("http", "https"):
        raise UsageError(
            f"no address of an API: {api}", hints=["it begins with https:// (--api, PROVISION_RELEASES_API)"], code="bad-url"
        )
    publishers = [one for one in release_lists.PUBLISHERS if one.trust == "official" or not official_only]
    with output.progress():
        outcome = refresh.refresh(publishers, api=api or release_lists.GITHUB_API)
    if output.as_json:
        output.document(update=outcome)
        return
    for difference in outcome.differences:
        _print_difference(output, difference)
    output.say(f"The wheel index is of {outcome.date} now: {outcome.wheels} wheels.")


def _show_all(output: Output) -> None:
    from provisioner.knowledge import tables, wheel_index, wheel_lists

    index = wheel_index.load()
    files = list(wheel_lists.unfold(index.lists))
    wheels = {
        "date": index.date,
        "origin": "shipped" if index is wheel_index.shipped() else "updated",
        "wheels": len(files),
        "hashed": sum(1 for file in files if file.sha256),
        "official": sum(1 for file in files if file.trust == "official"),
    }
    known = [(name, tables.table(name)) for name in tables.table_names()]
    if output.as_json:
        listed = [{"name": name, "rows": len(one.rows), "date": one.date, "source": one.source} for name, one in known]
        output.document(tables=listed, wheel_index=wheels)
        return
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for column in ("table", "rows", "read on", "source"):
        shown.add_column(column, overflow="fold", no_wrap=column == "read on")
    for name, one in known:
        shown.add_row(name, str(len(one.rows)), one.date, one.source)
    output.console().print(shown)
    output.say()
    output.prose(
        f"Wheel index ({wheels['origin']}) of {wheels['date']}: {wheels['wheels']} wheels, {wheels['official']} official, "
        f"{wheels['hashed']} with sha256."
    )


def _show_rows(output: Output, name: str) -> None:
    from provisioner.knowledge import tables

    found = tables.table(name)
    rows: list[dict[str, Any]] = [{"source": found.source, "date": found.date, **row} for row in found.rows]
    if output.as_json:
        output.document(table=name, note=found.note, rows=rows)
        return
    output.prose(f"{name}: {found.source} (read on {found.date})")
    if found.note:
        output.prose(found.note)
    for row in found.rows:
        output.say("  " + "  ".join(f"{key}={_text(value)}" for key, value in row.items() if value is not None))


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _print_difference(output: Output, difference: Any) -> None:
    if difference.failure:
        output.say(f"{difference.source}: not reached, its old list stays ({difference.failure})")
        return
    counts = {
        "new": difference.added,
        "gone": difference.removed,
        "hash known now": difference.hashed,
        "hash CHANGED": difference.rehashed,
    }
    changed = ", ".join(f"{len(names)} {what}" for what, names in counts.items() if names)
    output.say(f"{difference.source}: {changed or 'nothing has changed'}")
    signs = (("+", difference.added), ("-", difference.removed), ("!", difference.rehashed))
    lines = [f"  {sign} {name}" for sign, names in signs for name in names]
    shown = lines if output.verbose else lines[:NAMED_AT_MOST]
    for line in shown:
        output.say(line)
    if len(lines) > len(shown):
        output.say(f"  … and {len(lines) - len(shown)} more (-v names them)")
