"""The wheel route from a bare machine to an environment, against servers that the test starts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.world import CUDA, FLASH_ATTN, RELEASE, TORCH, World, make_world

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        shutil.which("nvcc") is None and not Path("/usr/local/cuda/bin/nvcc").exists(), reason="no nvcc to make the extension"
    ),
]

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
A100 = ("--gpu", "a100", "--driver", "550.54.15", "--python", PYTHON)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world")) as made:
        run = made.provision("knowledge", "update", "--official-only")
        assert run.returncode == 0, run.stderr
        yield made


@pytest.fixture(scope="module")
def environment(world: World) -> dict[str, object]:
    """The environment `env`, made once."""
    return world.document("create", "env", *A100, "-o", str(world.home / "env-lock.yml"))


def test_the_wheel_of_the_release_server_is_chosen_locked_inspected_and_installed(
    world: World, environment: dict[str, object]
) -> None:
    plan = environment["plan"]
    assert isinstance(plan, dict)
    assert (plan["route"], plan["torch"], plan["cuda"], plan["backend"]) == ("wheel", TORCH, CUDA, "venv")
    assert plan["flash_attn"]["filename"] == FLASH_ATTN
    run = world.provision(
        "run", "env", "python", "-c", "import flash_attn, torch; print(flash_attn.__version__, torch.__version__)"
    )
    assert run.stdout.split() == ["2.8.0.post2", f"{TORCH}+cu126"], run.stderr
    lock = (world.home / "env-lock.yml").read_text()
    assert "https://github.com/Dao-AILab" in lock, "the lock keeps the canonical address"
    listed = world.document("list")["environments"]
    assert [row["name"] for row in listed] == ["env"]
    assert listed[0]["manifest"]["receipt"] is not None


def test_an_existing_environment_is_not_touched_without_replace(world: World, environment: dict[str, object]) -> None:
    run = world.provision("create", "env", *A100)
    assert run.returncode == 2
    assert "--replace" in run.stderr
    assert world.document("list")["environments"][0]["prefix"] == environment["environment"]["prefix"]  # type: ignore[index]


def test_replacing_from_the_lock_and_rolling_back(world: World, environment: dict[str, object]) -> None:
    first = environment["environment"]["prefix"]  # type: ignore[index]
    second = world.document("create", "env", "--replace", "--lock", str(world.home / "env-lock.yml"))["environment"]["prefix"]
    assert second != first
    assert world.document("rollback", "env")["prefix"] == first
    assert Path(second).exists()


def test_activation_is_code_for_the_shell(world: World, environment: dict[str, object]) -> None:
    shell = f'eval "$({sys.executable} -m provisioner activate env --shell bash)"; python -c "import sys; print(sys.prefix)"'
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, env=world.environ)
    assert run.stdout.strip() == environment["environment"]["prefix"], run.stderr  # type: ignore[index]


def generations(world: World) -> set[str]:
    return {path.name for path in (world.home / "data/g").iterdir()}


def test_a_swapped_wheel_is_refused_and_nothing_is_left(world: World, environment: dict[str, object]) -> None:
    before = generations(world)
    wheel = world.root / RELEASE / FLASH_ATTN
    good = wheel.read_bytes()
    cache = world.home / "other-cache"
    shutil.copytree(world.home / "cache/knowledge", cache / "knowledge")
    wheel.write_bytes(good + b"evil")
    try:
        run = world.provision("create", "swapped", *A100, PROVISION_CACHE_DIR=str(cache))
    finally:
        wheel.write_bytes(good)
    assert run.returncode == 5, run.stderr
    assert generations(world) == before
    assert "swapped" not in [row["name"] for row in world.document("list")["environments"]]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["create", "a/b"], 2, "a/b"),
        (["create", "x", "--gpu", "rtx 9999"], 2, "rtx 9999"),
        (["create", "x", "--gpu", "h10"], 2, "did you mean"),
        (["create", "x", "--gpu", "gtx 1080", "--driver", "550.54.15"], 3, "1080"),
        (["create", "x", *A100[:4], "--python", "3.6"], 3, "3.6"),
        (["create", "x", "--gpu", "a100", "--driver", "nonsense"], 2, "nonsense"),
        (["create", "x", *A100, "--with", "=="], 2, "=="),
        (["create", "x", *A100, "--with", "no-such-package"], 3, "no-such-package"),
        (["create", "x", "--lock", "/nonexistent.yml"], 2, "/nonexistent.yml"),
    ],
)
def test_bad_input_is_refused_with_its_own_code_and_leaves_nothing(world: World, words: list[str], code: int, said: str) -> None:
    run = world.provision(*words)
    assert run.returncode == code, run.stderr
    assert said in run.stderr
    assert "Traceback" not in run.stderr
    assert not (world.home / "data/envs/x").is_symlink()


def test_an_index_that_does_not_answer_is_exit_4_and_named(world: World) -> None:
    dead = {"UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple"}
    run = world.provision("create", "x", *A100, **dead)
    assert run.returncode == 4, run.stderr
    assert "127.0.0.1" in run.stderr


def test_too_little_disk_is_said_before_anything_is_fetched(world: World) -> None:
    machine = world.document("detect")["machine"]
    machine["resources"]["disk_free_mib"] = {"prefix": 100, "cache": 100, "tmp": 100}
    path = world.home / "full-disk.json"
    path.write_text(json.dumps(machine))
    asked = len(world.server.requests)
    run = world.provision("create", "x", "--machine", str(path), *A100)
    assert run.returncode == 3, run.stderr
    assert "100 MiB free" in run.stderr
    files = [request for request in world.server.requests[asked:] if request[1].endswith(".whl")]
    assert files == []


@pytest.mark.parametrize(("lacking", "said"), [("compilers", "compiler"), ("headers", "headers")])
def test_what_a_build_lacks_is_said_before_anything_is_fetched(world: World, lacking: str, said: str) -> None:
    machine = world.document("detect")["machine"]
    if lacking == "compilers":
        machine["compilers"] = []
    else:
        machine["pythons"] = [{**python, "headers": False} for python in machine["pythons"]]
    path = world.home / f"no-{lacking}.json"
    path.write_text(json.dumps(machine))
    asked = len(world.server.requests)
    build = ("--gpu", "h100", "--driver", "580.65.06", "--head-dims", "128", "--dtypes", "bf16")
    run = world.provision("create", "x", "--machine", str(path), *build)
    assert run.returncode in (3, 6), run.stderr
    assert said in run.stderr
    assert [request for request in world.server.requests[asked:] if request[1].endswith((".whl", ".gz"))] == []


def test_a_place_with_spaces_and_chinese_letters_serves(world: World) -> None:
    place = world.home / "我的 环境"
    document = world.document("create", "env", *A100, PROVISION_DATA_DIR=str(place))
    assert document["environment"]["prefix"].startswith(str(place))
    run = world.provision(
        "run", "env", "python", "-c", "import flash_attn, sys; print(sys.prefix)", PROVISION_DATA_DIR=str(place)
    )
    assert run.stdout.strip() == document["environment"]["prefix"], run.stderr


def test_a_name_is_removed_with_everything_that_belongs_to_it(world: World) -> None:
    world.document("create", "gone", *A100)
    assert world.provision("remove", "gone").returncode == 2, "without a terminal it asks for --yes"
    assert world.provision("remove", "gone", "--yes").returncode == 0
    assert "gone" not in [row["name"] for row in world.document("list")["environments"]]
