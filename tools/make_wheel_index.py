"""Make ``provisioner/knowledge/wheels.json`` from lists of release files.

    python tools/make_wheel_index.py DIRECTORY [-o FILE]

DIRECTORY holds ``official_flash_attn_wheels.json`` and ``mjun0812_wheels.json`` (arrays of objects with ``url``, ``source``, ``sha256`` …) and
``windows_wildminder.json`` (``packages[].wheels[].url``); a missing one is left out. The day of a list comes from what its rows state.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from provisioner import paths
from provisioner.knowledge import wheel_lists
from provisioner.knowledge.wheel_lists import ReleaseFile

OFFICIAL = "Dao-AILab/flash-attention"
MJUN0812_DATE = "2026-07-26"  # the list's own day: doc/packages.md of mjun0812/flash-attention-prebuild-wheels
TARGET = Path(__file__).resolve().parents[1] / "provisioner" / "knowledge" / "wheels.json"


def read_lists(directory: Path) -> list[ReleaseFile]:
    """Return the flash-attn wheels of every list in ``directory``, official ones first."""
    readers: dict[str, Callable[[Any], Iterator[ReleaseFile]]] = {
        "official_flash_attn_wheels.json": _official,
        "mjun0812_wheels.json": _mjun0812,
        "windows_wildminder.json": _wildminder,
    }
    files: list[ReleaseFile] = []
    for name, reader in readers.items():
        if (path := directory / name).exists():
            files += reader(json.loads(path.read_text()))
    return files


def _official(rows: list[dict[str, Any]]) -> Iterator[ReleaseFile]:
    for row in rows:
        evidence = "; ".join(row["evidence"])
        days = re.findall(r"20\d\d-\d\d(?:-\d\d)?", evidence)
        day = max(days) if days else "2026-11-24"
        yield ReleaseFile(row["url"], OFFICIAL, "official", evidence, day if len(day) == 10 else f"{day}-01", row["sha256"])


def _mjun0812(rows: list[dict[str, Any]]) -> Iterator[ReleaseFile]:
    for row in rows:
        yield ReleaseFile(row["url"], row["source"], "community", "doc/packages.md at 2614dc8", MJUN0812_DATE, row["sha256"])


def _wildminder(document: dict[str, Any]) -> Iterator[ReleaseFile]:
    day = document["last_updated_utc"][:10]
    for package in document["packages"]:
        for wheel in package["wheels"]:
            url = wheel["url"]
            owner = re.match(r"https://(?:github\.com|huggingface\.co)/([^/]+/[^/]+)/", url)
            if owner and "/flash_attn" in url:
                yield ReleaseFile(
                    url, owner[1], "community", "wheels.json of wildminder/AI-windows-whl", day, wheel.get("sha256")
                )


def render(lists: wheel_lists.WheelLists) -> str:
    """Return the index as JSON with one line per group of files, so that a change shows as a readable diff."""
    shelves = []
    for shelf in lists.shelves:
        head = {key: getattr(shelf, key) for key in ("source", "trust", "evidence", "date", "base", "plus", "suffix")}
        torch = ",\n".join(
            f"  {json.dumps(minor)}: [\n" + ",\n".join(json.dumps(line, separators=(",", ":")) for line in lines) + "]"
            for minor, lines in shelf.torch.items()
        )
        shelves.append(json.dumps(head)[:-1] + ', "torch": {\n' + torch + "}}")
    return f'{{"date": {json.dumps(lists.date)}, "shelves": [\n' + ",\n".join(shelves) + "\n]}\n"


def main() -> None:
    """Read the lists, write the index, say how many wheels it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    arguments = parser.parse_args()
    files = read_lists(arguments.directory)
    lists = wheel_lists.fold(files, date=max(file.date for file in files))
    text = render(lists)
    paths.write_atomic(arguments.output, text)
    print(f"{sum(1 for _ in wheel_lists.unfold(lists))} wheels, {len(text) / 1024:.0f} KiB: {arguments.output}")


if __name__ == "__main__":
    main()
