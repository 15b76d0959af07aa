"""The adapter's route from a T4 or V100 to an environment: made at once, bundled, installed beside somebody's torch, refused when swapped."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_bundle import NO_NETWORK, can_unshare
from tests.e2e.test_install import environment
from tests.e2e.world import TORCH, World, make_world

pytestmark = pytest.mark.integration

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
V100 = ("--gpu", "v100", "--driver", "550.54.15", "--python", PYTHON, "--torch", TORCH, "--backend", "venv")
T4 = ("--gpu", "t4", *V100[2:])
VERSION = "2.7.2+aten"
"""The adapter's base is in the range of the world's xformers 0.0.31.post1, the label names PyTorch's kernels."""

SHOW = "import flash_attn, importlib.metadata as m; print(flash_attn.__version__, flash_attn.__build__, m.version('flash-attn'))"
SHOWN = ["2.7.2", VERSION, VERSION]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world"), flash_attn=False) as made:
        yield made


@pytest.fixture(scope="module")
def lock(world: World) -> Path:
    """A lock for a V100, which takes the adapter."""
    path = world.home / "v100-lock.yml"
    world.document("lock", *V100, "-o", str(path))
    return path


def shown(python: str | Path) -> list[str]:
    """Return the versions that the adapter in an environment states of itself."""
    run = subprocess.run([python, "-c", SHOW], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def generations(world: World) -> set[str]:
    return {path.name for path in (world.home / "data/g").glob("*")}


def downloads(world: World, since: int) -> list[str]:
    return [path for _, path, _ in world.server.requests[since:] if path.endswith((".whl", ".gz"))]


def test_an_environment_with_the_adapter_is_made_from_a_lock(world: World, lock: Path) -> None:
    document = world.document("create", "volta", "--lock", str(lock))
    assert (document["plan"]["route"], document["plan"]["flash_attn"]["version"]) == ("shim", VERSION)
    assert shown(document["environment"]["python"]) == SHOWN
    prefix = Path(document["environment"]["prefix"])
    manifest = json.loads((prefix / ".provision/manifest.json").read_text())
    assert (manifest["plan"]["route"], manifest["plan"]["flash_attn"]["version"]) == ("shim", VERSION)
    assert manifest["flash_attn_wheel_sha256"] in lock.read_text(), "the lock names the wheel that was installed"
    imported = {check["name"]: check["outcome"] for check in manifest["receipt"]["checks"] if "import" in check["name"]}
    assert any("flash_attn" in name for name in imported), manifest["receipt"]["checks"]


def test_a_lock_whose_adapter_is_not_ours_is_exit_5_and_nothing_is_left(world: World, lock: Path) -> None:
    record = '"sources_sha256":"'
    text = lock.read_text().replace('\\"', '"')
    start = text.index(record) + len(record)
    digest = text[start : start + 64]
    other = world.home / "other-lock.yml"
    other.write_text(lock.read_text().replace(digest, digest[::-1]))
    before = generations(world)
    run = world.provision("create", "other", "--lock", str(other))
    assert run.returncode == 5, run.stdout + run.stderr
    assert "the lock's adapter is not the one" in run.stderr
    assert generations(world) == before
    assert not (world.home / "data/envs/other").is_symlink()


def test_turing_kernels_that_cannot_be_compiled_are_never_the_default_and_are_refused_before_anything_is_fetched(
    world: World,
) -> None:
    machine = {**world.document("detect")["machine"], "compilers": []}
    path = world.home / "no-compiler.json"
    path.write_text(json.dumps(machine))
    described = ("--machine", str(path), *T4)
    assert world.document("plan", *described)["plan"]["flash_attn"]["version"] == VERSION
    since = len(world.server.requests)
    run = world.provision("create", "x", *described, "--flash-attn", "2.7.2+turing109")
    assert run.returncode == 3, run.stdout + run.stderr
    assert "compiler" in run.stderr
    assert downloads(world, since) == []


@pytest.mark.skipif(not can_unshare(), reason="unshare gives no network namespace here")
def test_a_bundle_with_the_adapter_needs_no_network(world: World, lock: Path) -> None:
    bundle = world.home / "v100.tar"
    world.document("bundle", str(lock), "-o", str(bundle))
    far = world.home / "far"
    places = {"HOME": str(far), "PROVISION_DATA_DIR": str(far / "data"), "PROVISION_CACHE_DIR": str(far / "cache")}
    command = [*NO_NETWORK, sys.executable, "-m", "provisioner", "create", "volta", "--bundle", str(bundle), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**world.environ, **places})
    assert run.returncode == 0, run.stdout + run.stderr
    assert shown(json.loads(run.stdout)["environment"]["python"]) == SHOWN


@pytest.mark.slow
@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="a real driver answers before the stand-in")
def test_the_adapter_is_installed_beside_somebodys_torch_and_needs_nothing_else(tmp_path: Path) -> None:
    with make_world(tmp_path, flash_attn=False) as world:
        world.give_driver("ubuntu22.04-rtx2080tix8-550.54.14")
        python = environment(tmp_path / "theirs", list((world.root / "files").glob("torch-*")))
        document = world.document("install", "--python", str(python), "--no-build", "--no-verify")
        assert (document["plan"]["route"], document["plan"]["torch"]) == ("shim", TORCH)
        base = document["plan"]["flash_attn"]["version"].partition("+")[0]
        assert shown(python) == [base, f"{base}+aten", f"{base}+aten"]
        run = world.provision("install", "--python", str(python), "--no-build")
        assert run.returncode == 7, "the stand-in torch sees no GPU, the driver does"
        assert shown(python) == [base, f"{base}+aten", f"{base}+aten"], "what was there is back"
