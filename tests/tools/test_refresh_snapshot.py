"""The script that refreshes the embedded snapshot, against a channel that the test serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.locking import snapshot
from tests.conda_channel import PLATFORM, add_package
from tests.servers import serve

SOLVE = """
import os, sys
from pathlib import Path
from provisioner.locking import conda_part, snapshot
snapshot.repodata.__defaults__ = (Path(sys.argv[1]),)
snapshot.about.__defaults__ = (Path(sys.argv[1]),)
solution = conda_part.solve_snapshot(["app"], virtual=conda_part.Virtual(None, "2.31"))
print(*(f"{package.name} {package.url}" for package in solution.packages), solution.snapshot_date, sep="\\n")
sys.stdout.flush(); os._exit(0)
"""


def run(*words: str) -> str:
    """Run Python in a child process: py-rattler may crash the interpreter that loaded it when that ends."""
    child = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120)
    assert child.returncode == 0, child.stderr
    return child.stdout


@pytest.mark.integration
@pytest.mark.skipif(PLATFORM != snapshot.PLATFORM, reason="the snapshot is of linux-64")
def test_a_live_channel_becomes_a_snapshot_that_solves_offline(tmp_path: Path, repository: Path) -> None:
    channel = tmp_path / "channel"
    add_package(channel, "app", "1.0", {"x": (b"", 0o644)}, depends=["lib >=1"])
    add_package(channel, "lib", "1.5", {"y": (b"", 0o644)}, subdir="noarch", noarch="generic")
    add_package(channel, "unrelated", "1.0", {"z": (b"", 0o644)})
    script = str(repository / "tools/refresh_snapshot.py")
    with serve(channel) as server:
        for name in ("first", "second"):
            words = ("--channel", server.url, "--root", "app", "--since", "2025-01-01", "-o", str(tmp_path / name))
            assert "2 records to 2025-10-09" in run(script, *words)
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    about = json.loads((tmp_path / "first/about.json").read_text())
    assert about["channel"] == server.url
    lines = run("-c", SOLVE, str(tmp_path / "first")).split("\n")
    assert lines[:3] == [f"app {server.url}/linux-64/app-1.0-0.conda", f"lib {server.url}/noarch/lib-1.5-0.conda", "2025-10-09"]


@pytest.mark.integration
def test_records_older_than_the_given_day_are_left_out(tmp_path: Path, repository: Path) -> None:
    channel = tmp_path / "channel"
    add_package(channel, "app", "1.0", {"x": (b"", 0o644)})
    (channel / "noarch").mkdir(exist_ok=True)
    with serve(channel) as server:
        words = ("--channel", server.url, "--root", "app", "--since", "2026-01-01", "-o", str(tmp_path / "made"))
        assert run(str(repository / "tools/refresh_snapshot.py"), *words).startswith("0 records")
