"""``provision bundle``: everything that a lock needs, in one place, for a machine without a network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking
from provisioner.cli.sources import mirroring

if TYPE_CHECKING:
    from provisioner.environments.bundle import BundleManifest
    from provisioner.environments.bundling import Forecast

MIB = 2**20


@click.command("bundle")
@click.argument("lock_file", metavar="LOCK", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "place", type=click.Path(path_type=Path), required=True, metavar="DIR|FILE.tar", help="Where to put it."
)
@click.option("--platform", metavar="NAME", help="Of a lock for several platforms, bundle this one: linux-64, linux-aarch64.")
@click.option("--dry-run", is_flag=True, help="Say how much would be fetched, fetch nothing.")
@mirroring
@speaking
def command(lock_file: Path, place: Path, platform: str | None, dry_run: bool, output: Output, offline: bool, yes: bool) -> None:
    """Fetch every file that `provision create` needs for LOCK, each checked against its sha256, into a folder or one .tar file.

    Interrupted, it continues where it stopped. On the other side: provision create NAME --bundle DIR|FILE.tar
    """
    from provisioner.cli.lock_targets import processor_of
    from provisioner.environments.bundle import needs
    from provisioner.environments.bundling import check_space, forecast, make_bundle, order

    made = order(lock_file, place, processor_of(platform) if platform else None)
    manifest = None
    with output.progress():
        if dry_run:
            cost = forecast(made)
            check_space(made, cost)
        else:
            manifest = make_bundle(made)
    wanted = tuple(needs(made.locked))
    if output.as_json:
        output.document(
            bundle=_described(place, manifest) if manifest else None, forecast=cost if dry_run else None, needs=wanted
        )
        return
    if output.quiet:
        return
    output.say(f"{'bundle':<13}{_summary(manifest) if manifest else _forecast(cost)}")
    for number, sentence in enumerate(wanted):
        output.say(f"{'target needs' if number == 0 else '':<13}{sentence}")
    if manifest is None:
        output.say("dry run: nothing was fetched")
        return
    output.say(f"{'digest':<13}sha256 {manifest.digest}")
    output.say()
    output.say(f"copy {place} there, then:  provision create NAME --bundle {place.name}")


def _described(place: Path, manifest: BundleManifest) -> dict[str, object]:
    return {
        "path": str(place.absolute()),
        "digest": manifest.digest,
        "lock_sha256": manifest.lock_sha256,
        "files": len(manifest.files),
        "bytes": manifest.size,
        "platform": manifest.platform,
        "backend": manifest.backend,
    }


def _summary(manifest: BundleManifest) -> str:
    conda = sum(file.path.startswith("conda/") for file in manifest.files)
    rest = len(manifest.files) - conda
    return f"{conda} conda packages and {rest} files of the package index, {manifest.size / MIB:.0f} MiB, all checked by sha256"


def _forecast(cost: Forecast) -> str:
    unknown = f", {cost.unknown} of unknown size" if cost.unknown else ""
    return f"{cost.files} files, {cost.bytes / MIB:.0f} MiB{unknown}; {cost.to_fetch / MIB:.0f} MiB to fetch now"
