"""Refresh the embedded channel snapshot from a live channel: the closure of what the recipes ask of conda.

    python tools/refresh_snapshot.py [--channel URL] [--since DATE] [-o DIRECTORY]

Takes every record of the roots and of what they may need that was built since DATE, and writes the files of
``provisioner/locking/snapshot_data`` with their sha256. Packages themselves are not fetched. The same channel state gives the same bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from provisioner.locking import snapshot
from provisioner.locking.conda_part import channel_url, client

ROOTS = ("python", "pip", "ninja", "gcc_linux-64", "gxx_linux-64", "cuda-version", "cuda-nvcc", "cuda-cudart-dev")
"""What `provisioner.planning.requirements.conda_specs` may ask for on linux-64."""

SINCE = "2024-01-01"


def query(channel: str, roots: Iterable[str]) -> list[Any]:
    """Return every record of the channel that the roots may need, from its repodata."""
    from rattler import Channel, Gateway, Subdir

    gateway = Gateway(client=client([channel]))
    platforms = [Subdir(subdir) for subdir in snapshot.SUBDIRS]
    found = asyncio.run(gateway.query([Channel(channel)], platforms, list(roots), recursive=True))
    return [record for records in found for record in records]


def contents(records: Iterable[Any], channel: str, since: dt.datetime) -> dict[str, bytes]:
    """Return the ``repodata.json`` of each subdir: records with both hashes, built since that day, in a stable order."""
    rows: dict[str, dict[str, Any]] = {subdir: {} for subdir in snapshot.SUBDIRS}
    for record in records:
        old = record.timestamp is not None and record.timestamp < since
        if record.subdir in rows and not old and record.sha256 and record.md5:
            rows[record.subdir][record.file_name] = json.loads(record.to_json())
    made = {}
    for subdir, found in rows.items():
        conda = {name: row for name, row in sorted(found.items()) if name.endswith(".conda")}
        older = {name: row for name, row in sorted(found.items()) if not name.endswith(".conda")}
        info = {"base_url": f"{channel}/{subdir}/", "subdir": subdir}
        content = {"info": info, "packages": older, "packages.conda": conda, "repodata_version": 2}
        made[subdir] = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return made


def newest(records: Iterable[Any]) -> str:
    """Return the day of the newest record, which dates the snapshot."""
    days = [record.timestamp for record in records if record.timestamp is not None]
    return max(days).date().isoformat() if days else "unknown"


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Refresh the embedded channel snapshot.")
    parser.add_argument("--channel", default="conda-forge")
    parser.add_argument(
        "--since", default=SINCE, type=lambda text: dt.datetime.fromisoformat(text).replace(tzinfo=dt.timezone.utc)
    )
    parser.add_argument("--root", action="append", help="take this package instead of the recipes' roots (repeatable)")
    parser.add_argument("-o", "--output", type=Path, default=snapshot.FOLDER)
    options = parser.parse_args(arguments)
    channel = channel_url(options.channel)
    roots = options.root or ROOTS
    records = query(channel, roots)
    source = f"{channel}: closure of {', '.join(roots)}, built since {options.since.date()}"
    info = snapshot.write(options.output, channel, newest(records), source, contents(records, channel, options.since))
    print(f"{info.records} records to {info.date} in {options.output}")


if __name__ == "__main__":
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)  # py-rattler 0.28 can crash while the interpreter is finalised
