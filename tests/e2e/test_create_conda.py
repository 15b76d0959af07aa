"""The conda backend from a local channel to an environment: real packages, a real Python, conda-lock's own commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file
from conda_lock.lockfile.v2prelim.models import LockMeta

from tests.conda_channel import add_package
from tests.e2e.world import World, give_channel, make_world

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(), reason="no nvcc to make the extension"
    ),
]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        give_channel(made)
        yield made


def options(world: World) -> tuple[str, ...]:
    channel = f"{world.server.url}/channel"
    return ("--gpu", "a100", "--driver", "550.54.15", "--python", PYTHON, "--backend", "conda", "--channel", channel)


@pytest.fixture(scope="module")
def lock(world: World) -> Path:
    """The lock of the environment `env`, which exists from then on."""
    path = world.home / "conda-lock.yml"
    document = world.document("create", "env", *options(world), "-o", str(path))
    assert document["plan"]["backend"] == "conda"
    return path


def test_python_comes_from_the_channel_and_runs_from_the_prefix(world: World, lock: Path) -> None:
    code = "import sys, torch, flash_attn, einops; print(sys.base_prefix == sys.prefix, sys.prefix)"
    run = world.provision("run", "env", "python", "-c", code)
    prefix = world.document("list")["environments"][0]["prefix"]
    assert run.stdout.split() == ["True", prefix], run.stderr
    assert {path.name.split("-")[0] for path in (Path(prefix) / "conda-meta").glob("*.json")} >= {"python", "pip", "gcc_linux"}


def test_conda_lock_renders_and_installs_the_lock(world: World, lock: Path, tmp_path: Path) -> None:
    conda_lock = Path(sys.executable).with_name("conda-lock")
    render = [str(conda_lock), "render", "-k", "explicit", "-p", "linux-64", str(lock)]
    run = subprocess.run(render, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=world.environ)
    assert run.returncode == 0, run.stderr
    explicit = (tmp_path / "conda-linux-64.lock").read_text()
    assert "/channel/linux-64/python-" in explicit
    assert "# pip torch @" in explicit
    shim = tmp_path / "conda"
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("conda_shim.py")} "$@"\n')
    shim.chmod(0o755)
    prefix = tmp_path / "installed"
    install = [str(conda_lock), "install", "--conda", str(shim), "--prefix", str(prefix), str(lock)]
    wheel = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1"}
    text = lock.read_text().replace("https://github.com", world.server.url)  # there is no GitHub here
    lock_here = tmp_path / "conda-lock.yml"
    lock_here.write_text(text)
    install[-1] = str(lock_here)
    run = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**world.environ, **wheel})
    assert run.returncode == 0, run.stdout + run.stderr
    python = subprocess.run([prefix / "bin/python", "-c", "import torch, flash_attn"], capture_output=True, text=True, timeout=60)
    assert python.returncode == 0, python.stderr


def test_a_lock_without_our_plan_is_installed_as_it_is_and_proved(world: World, lock: Path) -> None:
    content = parse_conda_lock_file(lock)
    bare = {**content.metadata.model_dump(), "custom_metadata": None}
    foreign = world.home / "foreign-lock.yml"
    write_conda_lock_file(type(content)(package=content.package, metadata=LockMeta(**bare)), foreign, metadata_choices=None)
    document = world.document("create", "foreign", "--lock", str(foreign))
    manifest = json.loads((Path(document["environment"]["prefix"]) / ".provision/manifest.json").read_text())
    assert manifest["lock_made_by"] == "conda-lock"
    assert (document["plan"]["recipe"], document["plan"]["flash_attn"]["version"]) == ("as-locked", "2.8.0.post2")
    proved = {check["name"] for check in document["environment"]["receipt"]["checks"]}
    assert {"import torch", "import flash_attn", "import xformers.ops"} <= proved
    assert world.provision("remove", "foreign", "--yes").returncode == 0


def begin_replacement(world: World) -> subprocess.Popen[bytes]:
    """Start to replace `env` and return once its new generation is being filled."""
    generations = world.home / "data/g"
    before = len(list(generations.iterdir()))
    command = [sys.executable, "-m", "provisioner", "create", "env", *options(world), "--replace"]
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, env=world.environ, stdout=quiet, stderr=quiet, start_new_session=True)
    while len(list(generations.iterdir())) <= before:
        assert child.poll() is None
        time.sleep(0.01)
    time.sleep(0.3)
    return child


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
def test_a_replacement_that_is_told_to_end_leaves_nothing_half_made(signum: signal.Signals, world: World, lock: Path) -> None:
    before = {path.name for path in (world.home / "data/g").iterdir()}
    child = begin_replacement(world)
    child.send_signal(signum)
    assert child.wait(60) == 130
    assert {path.name for path in (world.home / "data/g").iterdir()} == before


def test_a_killed_replacement_leaves_the_old_environment_working(world: World, lock: Path) -> None:
    before = world.document("list")["environments"][0]["prefix"]
    generations = world.home / "data/g"
    child = begin_replacement(world)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert world.document("list")["environments"][0]["prefix"] == before
    assert world.provision("run", "env", "python", "-c", "import torch, flash_attn").returncode == 0
    again = world.document("create", "env", *options(world), "--replace")["environment"]["prefix"]
    assert {path.name for path in generations.iterdir()} == {Path(before).name, Path(again).name}, "the half-made one is swept"


def test_a_swapped_conda_package_is_refused(world: World, lock: Path) -> None:
    package = next((world.root / "channel/linux-64").glob("gcc_linux-64-*.conda"))
    good = package.read_bytes()
    other = add_package(world.root / "other", "gcc_linux-64", "14.4.0", {"bin/x86_64-conda-linux-gnu-cc": (b"evil", 0o755)})
    package.write_bytes(other.read_bytes())
    cache = world.home / "fresh-cache"
    try:
        run = world.provision("create", "swapped", "--lock", str(lock), PROVISION_CACHE_DIR=str(cache))
    finally:
        package.write_bytes(good)
    assert run.returncode == 5, run.stderr
    assert "swapped" not in [row["name"] for row in world.document("list")["environments"]]
