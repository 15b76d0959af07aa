"""Locks that conda-lock and pixi's own library wrote, given to `create` and `bundle`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conda_channel import make_channel
from tests.e2e.test_bundle import behind_the_wall, can_unshare
from tests.e2e.world import FLASH_ATTN, RELEASE, World, make_world

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PIXI = """
import os, sys
from pathlib import Path
from tests.environments.test_foreign_lock import pixi_lock
from provisioner.locking.conda_lock_file import read_lock
pixi_lock(Path(sys.argv[2]), read_lock(Path(sys.argv[1])).packages)
os._exit(0)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        make_channel(made.root / "channel")
        yield made


@pytest.fixture(scope="module")
def conda_locked(world: World) -> Path:
    """A lock that conda-lock solved and wrote itself."""
    source = world.home / "environment.yml"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    source.write_text(
        f"channels: ['{world.server.url}/channel']\ndependencies: ['python={version}', pip, ninja]\nplatforms: [linux-64]\n"
    )
    shim = world.home / "conda"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("conda_shim.py")} "$@"\n')
    shim.chmod(0o755)
    path = world.home / "foreign.yml"
    command = [str(Path(sys.executable).with_name("conda-lock")), "lock", "--conda", str(shim), "-f", str(source)]
    run = subprocess.run(
        [*command, "--lockfile", str(path)], cwd=world.home, capture_output=True, text=True, timeout=300, env=world.environ
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return path


def test_a_lock_that_conda_lock_made_is_installed_and_its_python_runs(world: World, conda_locked: Path) -> None:
    run = world.provision("create", "theirs", "--lock", str(conda_locked))
    assert run.returncode == 0, run.stderr
    assert "by conda-lock: 3 conda packages" in run.stdout
    manifest = world.document("list")["environments"][0]["manifest"]
    assert (manifest["lock_made_by"], manifest["receipt"]) == ("conda-lock", None)
    assert world.provision("run", "theirs", "ninja", "--version").returncode == 0


def pixi_locked(world: World, conda_locked: Path) -> Path:
    """The same conda packages, torch and what it needs, and flash-attn's wheel, as pixi.lock."""
    from provisioner import download
    from provisioner.locking.conda_lock_file import read_lock, write_lock
    from provisioner.locking.values import Lock, LockedPackage

    lock = read_lock(conda_locked)
    named = {"torch", "triton", "nvidia_cuda_runtime_cu12", "einops"}
    files = [path for path in (world.root / "files").iterdir() if path.name.split("-")[0] in named]
    files.append(world.root / RELEASE / FLASH_ATTN)
    wheels = [
        LockedPackage(
            *(file.name.split("-")[0], file.name.split("-")[1], "pip", "linux-64"),
            f"{world.server.url}/{file.relative_to(world.root).as_posix().replace('+', '%2B')}",
            download.file_sha256(file),
        )
        for file in files
    ]
    everything = world.home / "all.yml"
    write_lock(Lock("linux-64", (*lock.packages, *wheels), lock.channels), everything)
    subprocess.run([sys.executable, "-c", PIXI, str(everything), str(world.home)], check=True, timeout=120)
    return world.home / "pixi.lock"


@pytest.mark.skipif(not can_unshare(), reason="unshare gives no network namespace here")
def test_a_pixi_lock_is_bundled_and_installed_without_a_network(world: World, conda_locked: Path) -> None:
    lock = pixi_locked(world, conda_locked)
    bundle = world.home / "pixi.tar"
    assert world.document("bundle", str(lock), "-o", str(bundle))["bundle"]["backend"] == "conda"
    run = behind_the_wall(world, "pixi", bundle, "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads(run.stdout)
    assert document["plan"]["flash_attn"]["version"].startswith("2.8.0.post2")
    assert {"import torch", "import flash_attn"} <= {check["name"] for check in document["environment"]["receipt"]["checks"]}
    manifest = json.loads((Path(document["environment"]["prefix"]) / ".provision/manifest.json").read_text())
    assert (manifest["lock_made_by"], len(manifest["bundle"])) == ("pixi", 64)
