"""As much of conda as `conda-lock lock` calls, over py-rattler and provision's embedded snapshot: no conda is needed to measure against it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def main(words: list[str]) -> int:
    if "--version" in words:
        print("conda 24.9.0")
        return 0
    if "info" in words:
        print(json.dumps({"platform": "linux-64", "conda_version": "24.9.0", "root_prefix": "/nowhere", "channels": []}))
        return 0
    if words[0] == "create" and "--dry-run" in words:
        return _dry_run(words)
    print(f"this conda does not know {words}", file=sys.stderr)
    return 2


def _dry_run(words: list[str]) -> int:
    """Print the solved packages as conda does with ``--dry-run --json``."""
    from rattler import Channel, ChannelPriority, GenericVirtualPackage, MatchSpec, SparseRepoData, Subdir, solve

    from provisioner.locking import snapshot

    channels = [words[index + 1] for index, word in enumerate(words) if word == "--channel"]
    specs = [word for index, word in enumerate(words[1:], 1) if not word.startswith("-") and words[index - 1] not in TAKING]
    info = snapshot.about()
    sources = [SparseRepoData(Channel(info.channel), subdir, str(snapshot.repodata(subdir))) for subdir in snapshot.SUBDIRS]
    virtual: list[GenericVirtualPackage] = []
    for channel in channels:
        if channel.startswith("file:"):
            virtual += _virtual(Path(urlsplit(channel).path))
    solved = asyncio.run(
        solve(
            sources=sources,
            specs=[MatchSpec(spec, strict=False) for spec in specs],
            platforms=[Subdir("linux-64"), Subdir("noarch")],
            virtual_packages=virtual,
            channel_priority=ChannelPriority.Strict,
        )
    )
    rows = [_row(record) for record in solved]
    print(json.dumps({"success": True, "actions": {"FETCH": rows, "LINK": rows}}))
    return 0


TAKING = ("--channel", "--prefix", "-p", "-c", "--name", "-n")
"""Options that a word follows."""


def _virtual(channel: Path) -> list[Any]:
    from rattler import BuildString, GenericVirtualPackage, PackageName, Version

    found = []
    for path in channel.glob("*/repodata.json"):
        for row in json.loads(path.read_text())["packages"].values():
            found.append(GenericVirtualPackage(PackageName(row["name"]), Version(row["version"]), BuildString(row["build"])))
    return found


def _row(record: Any) -> dict[str, Any]:
    channel = str(record.url).rsplit("/", 2)[0]
    return {
        **{
            "name": record.name.normalized,
            "version": str(record.version),
            "build": str(record.build),
            "build_string": str(record.build),
        },
        **{
            "build_number": record.build_number,
            "channel": channel,
            "base_url": channel,
            "subdir": record.subdir,
            "platform": record.subdir,
        },
        **{
            "url": str(record.url),
            "fn": record.file_name,
            "dist_name": f"{record.name.normalized}-{record.version}-{record.build}",
        },
        **{"md5": record.md5.hex(), "sha256": record.sha256.hex(), "depends": record.depends, "constrains": record.constrains},
        **{"timestamp": 0},
    }


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # py-rattler 0.28 can crash while the interpreter is finalised
