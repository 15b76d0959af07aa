"""`provision install` beside somebody's torch: what it puts there, what it refuses, and that a failure leaves no trace.

The driver is a stand-in (an nvidia-smi that says what a real one said), so a GPU seems to be there and every proof on it fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.distributions import make_wheel
from tests.e2e.world import FLASH_ATTN, RELEASE, World, make_world

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(), reason="no nvcc to make the extension"
    ),
    pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="a real driver answers before the stand-in"),
]

CAPTURE = "ubuntu20.04-rtx4090-550.54.14"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        assert made.provision("knowledge", "update", "--official-only").returncode == 0
        made.give_driver(CAPTURE)
        yield made


@pytest.fixture
def python(world: World, tmp_path: Path) -> Path:
    """A virtual environment of somebody's, with torch and einops and an older flash-attn."""
    old = make_wheel(tmp_path, "flash-attn", "2.7.4", files={"flash_attn/__init__.py": "__version__ = '2.7.4'\n"})
    files = [*(world.root / "files").glob("torch-*"), *(world.root / "files").glob("einops-*"), old]
    return environment(tmp_path / "theirs", files)


def environment(prefix: Path, wheels: list[Path]) -> Path:
    uv = [str(Path(sys.executable).with_name("uv"))]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(prefix)], check=True, timeout=60)
    python = prefix / "bin/python"
    install = [*uv, "pip", "install", "--quiet", "--no-deps", "--no-index", "--python", str(python), *map(str, wheels)]
    subprocess.run(install, check=True, timeout=120)
    return python


def contents(python: Path) -> dict[str, bytes]:
    """Everything in the environment, byte for byte; compiled files of Python aside."""
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    return {str(path): path.read_bytes() for path in site.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def version(python: Path) -> str:
    code = "import flash_attn; print(flash_attn.__version__)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60).stdout.strip()


def test_the_wheel_for_that_torch_replaces_the_old_flash_attn_and_nothing_else(world: World, python: Path) -> None:
    before = contents(python)
    document: dict[str, Any] = world.document("install", "--python", str(python), "--no-verify")
    assert (document["plan"]["route"], document["plan"]["torch"]) == ("wheel", "2.7.1")
    assert document["installed"]["python"] == str(python)
    assert document["installed"]["wheel"].endswith(FLASH_ATTN)
    assert document["installed"]["receipt"] is None
    assert version(python) == "2.8.0.post2"
    changed = {path for path, data in contents(python).items() if before.get(path) != data}
    assert changed
    assert all("flash_attn" in path for path in changed | (before.keys() - contents(python).keys()))


def test_a_failed_proof_puts_the_old_flash_attn_back_byte_for_byte(world: World, python: Path) -> None:
    before = contents(python)
    run = world.provision("install", "--python", str(python), "--json")
    assert run.returncode == 7, run.stdout + run.stderr
    error = json.loads(run.stdout)["error"]
    assert error["exit_code"] == 7
    assert "GPU" in error["what"], "the stand-in torch sees none, the driver does"
    assert f"provision doctor --python {python}" in error["hints"][-1]
    assert contents(python) == before
    assert version(python) == "2.7.4"


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_installed_and_changes_nothing(world: World, python: Path) -> None:
    before = contents(python)
    run = world.provision("install", "--python", str(python), "--dry-run")
    assert run.returncode == 0, run.stderr
    assert FLASH_ATTN.partition("-cp")[0].partition("-")[2].partition("+")[0] in run.stdout
    assert contents(python) == before


def test_a_flash_attn_outside_the_range_of_the_xformers_that_is_there_is_refused(world: World, tmp_path: Path) -> None:
    wheels = [*(world.root / "files").glob("torch-*"), *(world.root / "files").glob("einops-*")]
    strict = make_wheel(tmp_path, "xformers", "0.0.29.post3", files={"xformers/__init__.py": "", "xformers/ops/__init__.py": ""})
    python = environment(tmp_path / "theirs", [*wheels, strict])
    before = contents(python)
    run = world.provision("install", "--python", str(python))
    assert run.returncode == 3, run.stderr
    assert "error[xformers-range]" in run.stderr
    assert "0.0.29.post3" in run.stderr
    assert contents(python) == before


@pytest.mark.slow
def test_a_swapped_wheel_is_exit_5_and_changes_nothing(world: World, python: Path) -> None:
    wheel = world.root / RELEASE / FLASH_ATTN
    good, before = wheel.read_bytes(), contents(python)
    cache = python.parents[2] / "cache"
    shutil.copytree(world.home / "cache/knowledge", cache / "knowledge")
    wheel.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        run = world.provision("install", "--python", str(python), PROVISION_CACHE_DIR=str(cache))
    finally:
        wheel.write_bytes(good)
    assert run.returncode == 5, run.stderr
    assert contents(python) == before


@pytest.mark.slow
@pytest.mark.parametrize(("lacking", "code"), [("torch", "no-torch"), ("einops", "missing-build-dep")])
def test_what_is_missing_is_said_and_not_added_behind_the_owners_back(
    world: World, tmp_path: Path, lacking: str, code: str
) -> None:
    wheels = [path for name in ("torch", "einops") if name != lacking for path in (world.root / "files").glob(f"{name}-*")]
    python = environment(tmp_path / "theirs", wheels)
    before = contents(python)
    run = world.provision("install", "--python", str(python))
    assert run.returncode == 2, run.stderr
    assert f"error[{code}]" in run.stderr
    assert contents(python) == before
