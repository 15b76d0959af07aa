from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from provisioner.errors import UsageError
from provisioner.locking import snapshot
from provisioner.locking.conda_part import channel_url
from provisioner.locking.snapshot import about

SOLVE = """
import sys, os
from datetime import datetime, timezone
from provisioner.errors import ProvisionError
from provisioner.locking.conda_part import Virtual, solve_live, solve_snapshot
cuda, *specs = sys.argv[1:]
date = specs.pop(0)[5:] if specs[0].startswith("date=") else None
options = {"exclude_newer": datetime.fromisoformat(date).replace(tzinfo=timezone.utc)} if date else {}
try:
    if specs[0].startswith("channel="):
        solution = solve_live(specs[1:], [specs[0][8:]], platform="linux-64", virtual=Virtual(cuda or None, "2.31"))
    else:
        solution = solve_snapshot(specs, virtual=Virtual(cuda or None, "2.31"), **options)
    print(solution.snapshot_date)
    for package in solution.packages:
        print(package.name, package.version, len(package.sha256), len(package.md5), package.url, package.sha256)
except ProvisionError as error:
    print(error.exit_code, error.what, error.why, *error.hints)
sys.stdout.flush(); os._exit(0)
"""


def solve(*words: str) -> list[str]:
    """Solve in a child process: py-rattler may crash the interpreter that loaded it when that ends."""
    run = subprocess.run([sys.executable, "-c", SOLVE, *words], capture_output=True, text=True, timeout=120, check=True)
    return run.stdout.splitlines()


def solve_hashes(*words: str) -> list[str]:
    return [line.split()[5] for line in solve("13.0", *words)[1:]]


def test_a_channel_is_given_by_name_url_or_path() -> None:
    assert channel_url("conda-forge") == "https://conda.anaconda.org/conda-forge"
    assert channel_url("https://mirror.example/forge/") == "https://mirror.example/forge"
    assert channel_url("/srv/channel") == "file:///srv/channel"


@pytest.mark.integration
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
def test_the_snapshot_solves_the_toolchain_of_each_python_offline(python: str) -> None:
    date, *lines = solve("13.0", f"python {python}.*", "cuda-version 13.0.*", "cuda-nvcc", "gxx_linux-64 14.*", "ninja", "pip")
    assert date == about().date
    versions = {line.split()[0]: line.split()[1] for line in lines}
    assert versions["python"].startswith(python)
    assert versions["cuda-nvcc"].startswith("13.0")
    assert all(line.split()[2:4] == ["64", "32"] for line in lines)
    assert len(lines) > 40


@pytest.mark.integration
def test_the_blocking_package_is_named() -> None:
    (line, *_) = ["\n".join(solve("12.8", "python 3.12.*", "flash-attn", "cuda-version 12.8.*"))]
    assert line.startswith("3 ")
    assert "cuda-version >=12.9" in line


@pytest.mark.integration
def test_the_nearest_change_that_would_work_is_named() -> None:
    (said,) = ["\n".join(solve("13.0", "python 3.12.*", "cuda-version 13.0.*", "cuda-nvcc", "gxx_linux-64 >=99"))]
    assert said.startswith("3 ")
    assert "goes with all the rest; gxx_linux-64 >=99 does not" in said


@pytest.mark.integration
def test_cuda_is_that_of_the_machine_described_whatever_this_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "12.9")
    (said,) = ["\n".join(solve("", "python 3.12.*", "pytorch-gpu", "cuda-version 12.9.*"))]
    assert "__cuda" in said, "a machine without a driver gets no CUDA build, however this host is set"
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "")
    names = [line.split()[0] for line in solve("12.9", "python 3.12.*", "pytorch-gpu", "cuda-version 12.9.*")[1:]]
    assert "pytorch-gpu" in names


@pytest.mark.integration
def test_a_channel_that_does_not_answer_is_named() -> None:
    assert solve("12.8", "channel=http://127.0.0.1:9/forge", "python")[0].startswith(
        "4 the conda channel cannot be read: http://127.0.0.1:9/forge"
    )


@pytest.mark.integration
def test_a_day_holds_for_the_snapshot_too() -> None:
    """Its records carry the time of their build, in milliseconds."""
    times = {}
    for subdir in snapshot.SUBDIRS:
        for row in json.loads(snapshot.repodata(subdir).read_text())["packages.conda"].values():
            times[row["sha256"]] = row.get("timestamp")
    wanted = ("python 3.12.*", "cuda-version 12.8.*", "cuda-nvcc", "ninja")
    newest = {line.split()[0]: line.split()[1] for line in solve("13.0", *wanted)[1:]}
    earlier = {line.split()[0]: line.split()[1] for line in solve("13.0", "date=2026-09-01", *wanted)[1:]}
    assert newest != earlier
    chosen = solve_hashes("date=2026-09-01", *wanted)
    assert chosen
    limit = 1_788_220_800_000
    assert all((times[sha256] or limit + 1) <= limit for sha256 in chosen)
    (said,) = ["\n".join(solve("13.0", "date=2001-01-01", *wanted))]
    assert said.startswith("3 ")
    day = re.search(r"--exclude-newer (\S+) goes: ", said)
    assert day is not None
    assert len(solve("13.0", f"date={day[1]}", *wanted)) > 40


@pytest.mark.parametrize(
    "url", ["https://me:secret@conda.example/x", "https://conda.example/t/tk-123-456/x", "https://conda.example/a/t/tk-1"]
)
def test_a_password_or_token_in_a_channel_is_refused_since_it_would_stand_in_the_lock(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        channel_url(url)
    assert caught.value.code == "password-in-url"
    assert not any(secret in str(caught.value.to_dict()) for secret in ("secret", "tk-1"))
    assert channel_url("https://conda.example/t") == "https://conda.example/t"
