from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from provisioner.knowledge import wheel_index, wheel_lists
from provisioner.knowledge.wheel_lists import WheelLists

pytestmark = pytest.mark.subprocess


def make(repository: Path, directory: Path) -> WheelLists:
    target = directory / "wheels.json"
    argv = [sys.executable, str(repository / "tools" / "make_wheel_index.py"), str(directory), "-o", str(target)]
    subprocess.run(argv, check=True, cwd=repository, timeout=120)
    return msgspec.json.decode(target.read_bytes(), type=WheelLists)


def lists_of_the_shipped_index() -> dict[str, Any]:
    """The shipped index in the shapes that the tool reads."""
    official, community, windows = [], [], []
    for file in wheel_lists.unfold(wheel_index.shipped().lists):
        row = {"url": file.url, "source": file.source, "sha256": file.sha256}
        if file.trust == "official":
            official.append({**row, "evidence": file.evidence.split("; ")})
        elif file.evidence.startswith("doc/packages.md"):
            community.append(row)
        else:
            windows.append(row)
    days = [shelf.date for shelf in wheel_index.shipped().lists.shelves if "wildminder" in shelf.evidence]
    return {
        "official_flash_attn_wheels.json": official,
        "mjun0812_wheels.json": community,
        "windows_wildminder.json": {"last_updated_utc": f"{days[0]}T14:27:42+00:00", "packages": [{"wheels": windows}]},
    }


def test_every_url_and_hash_of_the_lists_comes_back_exactly(repository: Path, tmp_path: Path) -> None:
    lists = lists_of_the_shipped_index()
    for name, rows in lists.items():
        (tmp_path / name).write_text(json.dumps(rows))
    stated = {
        row["url"]: row["sha256"]
        for row in (
            *lists["official_flash_attn_wheels.json"],
            *lists["mjun0812_wheels.json"],
            *lists["windows_wildminder.json"]["packages"][0]["wheels"],
        )
    }
    made = make(repository, tmp_path)
    assert {file.url: file.sha256 for file in wheel_lists.unfold(made)} == stated
    assert (tmp_path / "wheels.json").read_bytes() == wheel_index.SHIPPED.read_bytes(), "the shipped index is what the tool makes"


def test_a_new_wheel_in_a_list_is_in_the_index(repository: Path, tmp_path: Path) -> None:
    url = "https://github.com/o/n/releases/download/v9/flash_attn-2.9.9+cu130torch2.14-cp314-cp314t-linux_aarch64.whl"
    other = "https://github.com/o/n/releases/download/v9/torchaudio-2.9.9-cp314-cp314t-linux_aarch64.whl"
    rows = [{"url": url, "source": "o/n", "sha256": "ab" * 32}, {"url": other, "source": "o/n", "sha256": None}]
    (tmp_path / "mjun0812_wheels.json").write_text(json.dumps(rows))
    (file,) = wheel_lists.unfold(make(repository, tmp_path))
    assert (file.url, file.sha256, file.source, file.trust) == (url, "ab" * 32, "o/n", "community")
