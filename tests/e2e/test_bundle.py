"""From a lock to a bundle, and from the bundle to an environment where there is no network at all: not even loopback."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conda_channel import add_package
from tests.e2e.world import FLASH_ATTN, World, give_channel, make_world

NO_NETWORK = ("unshare", "--user", "--map-root-user", "--net")


def can_unshare() -> bool:
    """Say whether this system lets us have a network namespace of our own."""
    try:
        return subprocess.run([*NO_NETWORK, "true"], capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(), reason="no nvcc to make the extension"
    ),
    pytest.mark.skipif(not can_unshare(), reason="unshare gives no network namespace here"),
]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
A100 = ("--gpu", "a100", "--driver", "550.54.15", "--python", PYTHON)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        give_channel(made)
        yield made


def make_bundle(world: World, backend: str, output: Path) -> dict[str, Any]:
    lock = world.home / f"{backend}-lock.yml"
    if not lock.exists():
        channel = ("--channel", f"{world.server.url}/channel")
        world.document("lock", *A100, "--backend", backend, *channel, "-o", str(lock))
    bundle: dict[str, Any] = world.document("bundle", str(lock), "-o", str(output))["bundle"]
    return bundle


@pytest.fixture(scope="module")
def venv_bundle(world: World) -> Path:
    """A bundle of the venv backend, as one file."""
    path = world.home / "venv.tar"
    made = make_bundle(world, "venv", path)
    assert made["bytes"] < path.stat().st_size
    return path


@pytest.fixture(scope="module")
def conda_bundle(world: World) -> Path:
    """A bundle of the conda backend, as a folder."""
    path = world.home / "conda-bundle"
    make_bundle(world, "conda", path)
    return path


def behind_the_wall(world: World, name: str, bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``create NAME --bundle`` on a machine that shares nothing with the world but the bundle and has no network interface up."""
    far = world.home / f"far-{name}"
    environ = {
        **world.environ,
        "HOME": str(far),
        "PROVISION_DATA_DIR": str(far / "data"),
        "PROVISION_CACHE_DIR": str(far / "cache"),
    }
    command = [*NO_NETWORK, sys.executable, "-m", "provisioner", "create", name, "--bundle", str(bundle), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ)


def assert_nothing_was_left(world: World, name: str) -> None:
    far = world.home / f"far-{name}"
    assert not (far / "data/envs" / name).is_symlink()
    assert list((far / "data/g").glob("*")) == []
    assert [path for path in (far / "cache/bundles").glob("*") if path.is_dir()] == []


@pytest.mark.parametrize("backend", ["venv", pytest.param("conda", marks=pytest.mark.slow)])
def test_create_works_from_a_bundle_alone_without_any_network(world: World, backend: str, request: pytest.FixtureRequest) -> None:
    bundle = request.getfixturevalue(f"{backend}_bundle")
    run = behind_the_wall(world, backend, bundle, "--json")
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads(run.stdout)
    assert [(source["name"], source["reachable"]) for source in document["machine"]["sources"]] == [("bundle", True)]
    code = "import sys, torch, flash_attn, einops, unsloth_zoo; print(flash_attn.__version__, sys.base_prefix == sys.prefix)"
    python = subprocess.run([document["environment"]["python"], "-c", code], capture_output=True, text=True, timeout=60)
    assert python.stdout.split() == ["2.8.0.post2", str(backend == "conda")], python.stderr
    prefix = Path(document["environment"]["prefix"])
    manifest = json.loads((prefix / ".provision/manifest.json").read_text())
    assert len(manifest["bundle"]) == 64
    if backend == "conda":
        records = [json.loads(path.read_text()) for path in (prefix / "conda-meta").glob("*.json")]
        assert all(record["url"].startswith(f"{world.server.url}/channel/") for record in records), "the lock's addresses"
    assert [path for path in (world.home / f"far-{backend}/cache/bundles").glob("*") if path.is_dir()] == []


def test_a_tampered_wheel_is_exit_5_and_nothing_is_made(world: World, venv_bundle: Path) -> None:
    evil = world.home / "evil.tar"
    data = bytearray(venv_bundle.read_bytes())
    with tarfile.open(venv_bundle) as archive:
        data[archive.getmember(f"index/{FLASH_ATTN}").offset_data + 1000] ^= 1
    evil.write_bytes(bytes(data))
    run = behind_the_wall(world, "evil", evil)
    assert run.returncode == 5, run.stderr
    assert FLASH_ATTN in run.stderr
    assert_nothing_was_left(world, "evil")


def test_a_bundle_that_was_cut_off_is_exit_5_and_nothing_is_made(world: World, venv_bundle: Path) -> None:
    cut = world.home / "cut.tar"
    cut.write_bytes(venv_bundle.read_bytes()[: venv_bundle.stat().st_size // 2])
    run = behind_the_wall(world, "cut", cut)
    assert run.returncode == 5, run.stderr
    assert_nothing_was_left(world, "cut")


@pytest.mark.slow
def test_a_tampered_conda_package_is_exit_5_and_nothing_is_made(world: World, conda_bundle: Path) -> None:
    evil = Path(shutil.copytree(conda_bundle, world.home / "evil-conda"))
    other = add_package(world.root / "other", "gcc_linux-64", "14.4.0", {"bin/x86_64-conda-linux-gnu-cc": (b"evil", 0o755)})
    shutil.copy(other, next(evil.glob("conda/*/gcc_linux-64-*.conda")))
    run = behind_the_wall(world, "evil-conda", evil)
    assert run.returncode == 5, run.stderr
    assert "gcc_linux-64" in run.stderr
    assert_nothing_was_left(world, "evil-conda")


@pytest.mark.slow
def test_a_host_without_the_python_is_told_so_before_anything_is_made(world: World, venv_bundle: Path) -> None:
    machine = world.document("detect")["machine"]
    facts = world.home / "no-python.json"
    facts.write_text(json.dumps({**machine, "pythons": [], "gpus": []}))
    run = behind_the_wall(world, "bare", venv_bundle, "--machine", str(facts))
    assert run.returncode == 3, run.stderr
    assert f"no Python {PYTHON}" in run.stderr
    assert "--backend conda" in run.stderr
    assert_nothing_was_left(world, "bare")


def test_an_index_with_a_password_serves_lock_and_bundle_and_the_password_stays_out_of_both(world: World) -> None:
    lock, bundle = world.home / "guarded-lock.yml", world.home / "guarded"
    guarded = {"UV_DEFAULT_INDEX": world.environ["UV_DEFAULT_INDEX"].replace("://", "://me:s%40cret@")}
    world.server.password = "s@cret"
    try:
        refused = world.provision("lock", *A100, "--backend", "venv", "-o", str(lock))
        assert refused.returncode == 4, refused.stderr
        assert "netrc" in refused.stderr
        assert world.provision("lock", *A100, "--backend", "venv", "-o", str(lock), **guarded).returncode == 0
        run = world.provision("bundle", str(lock), "-o", str(bundle), **guarded)
        assert run.returncode == 0, run.stderr
        without = world.provision("bundle", str(lock), "-o", str(world.home / "unguarded"))
        assert without.returncode == 4, without.stderr
        assert "netrc" in without.stderr
    finally:
        world.server.password = None
    written = [lock, *(path for path in bundle.rglob("*") if path.suffix in (".json", ".yml"))]
    assert len(written) == 3
    assert not any("cret" in path.read_text() for path in written)
