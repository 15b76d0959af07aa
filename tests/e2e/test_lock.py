"""`provision lock` as a user runs it: several targets, what moves, what drifts, other formats, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from provisioner.download import file_sha256
from tests.conda_channel import PLATFORM, add_package, make_channel
from tests.distributions import make_wheel
from tests.e2e.world import TAG, TORCH, World, make_world
from tests.servers import write_dated_index, write_index

pytestmark = pytest.mark.integration

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
A100 = ("--gpu", "a100", "--driver", "550.54.15", "--python", PYTHON)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with make_world(tmp_path_factory.mktemp("world"), flash_attn=False) as made:
        channel = make_channel(made.root / "channel")
        for subdir in (PLATFORM, "linux-aarch64"):
            add_package(channel, f"gcc_{subdir}", "14.4.0", {"bin/cc": (b"", 0o755)}, subdir=subdir)
        for name, version in (("python", f"{PYTHON}.4"), ("pip", "26.0")):
            add_package(channel, name, version, {f"lib/{name}": (b"", 0o644)}, subdir="linux-aarch64")
        assert made.provision("knowledge", "update", "--official-only").returncode == 0
        yield made


def lock(world: World, path: Path, *words: str) -> Path:
    run = world.provision("lock", *A100, "-o", str(path), "--refresh", *words)
    assert run.returncode == 0, run.stderr
    return path


def test_one_file_holds_both_platforms_when_a_live_channel_has_them(world: World, tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    folder = world.root / "whl/cpu"
    make_wheel(folder, "torch", "2.13.0+cpu", tag=f"{TAG}-{TAG}-manylinux_2_28_x86_64")
    arm = f"{TAG}-{TAG}-manylinux_2_28_aarch64"  # there the package index has a torch for CUDA 13.0, and triton
    make_wheel(world.root / "files", "torch", "2.13.0", tag=arm, requires=["nvidia-cuda-runtime==13.0.96"])
    make_wheel(world.root / "files", "triton", "3.7.1", tag=arm)
    make_wheel(world.root / "files", "nvidia-cuda-runtime", "13.0.96", tag="py3-none-manylinux_2_28_aarch64")
    write_index(world.root)
    (folder / "torch").mkdir()
    rows = [f'<a href="../{quote(each.name)}#sha256={file_sha256(each)}">{each.name}</a>' for each in folder.glob("*.whl")]
    (folder / "torch/index.html").write_text(f"<!DOCTYPE html><html><body>{'<br>'.join(rows)}</body></html>")
    path = tmp_path / "conda-lock.yml"
    platforms = ("--platform", "linux-64", "--platform", "linux-aarch64", "--channel", f"{world.server.url}/channel")
    mirrors = f"{world.environ['PROVISION_MIRRORS']} https://download.pytorch.org={world.server.url}"
    words = ("lock", "--recipe", "cpu", "--python", PYTHON, *platforms, "-o", str(path))
    run = world.provision(*words, PROVISION_MIRRORS=mirrors)
    assert run.returncode == 0, run.stderr
    content = parse_conda_lock_file(path)
    assert content.metadata.platforms == ["linux-64", "linux-aarch64"]
    torch = {row.platform: row.url for row in content.package if row.name == "torch"}
    assert torch["linux-64"].startswith("https://download.pytorch.org/whl/cpu/torch-2.13.0%2Bcpu-"), "the canonical address"
    assert "manylinux_2_28_aarch64" in torch["linux-aarch64"]
    assert {row.platform for row in content.package if row.name == "python"} == {"linux-64", "linux-aarch64"}


def test_another_platform_without_a_live_channel_says_that_it_needs_one(world: World, tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    run = world.provision("lock", *A100, "--platform", "linux-aarch64", "-o", str(path), "--backend", "conda")
    assert run.returncode == 4, run.stderr
    assert "linux-aarch64" in run.stderr
    assert "live channel" in run.stderr
    assert not path.exists()


def test_classes_with_the_same_packages_share_a_file(world: World, tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    words = ("--gpu-class", "sm_80", "--gpu-class", "sm_90", "--driver", "550.54.15", "--python", PYTHON)
    document = world.document("lock", *words, "-o", str(path))
    assert [row["targets"] for row in document["locks"]] == [["linux-64+sm_80", "linux-64+sm_90"]]
    made = world.document("create", "shared", "--lock", str(path), *A100, "--dry-run")
    assert made["plan"]["gpu_classes"] == ["sm_80"], "create takes the part that is for this machine"
    moved = world.provision("lock", "--update", "trl", "-o", str(path), "--json")
    (hint,) = json.loads(moved.stdout)["error"]["hints"]
    assert "provision lock --gpu sm_80 --driver " in hint
    assert hint.endswith("-o linux-64+sm_80-lock.yml"), "one for both is not replaced by one for one"
    run = world.provision("create", "other", "--lock", str(path), "--gpu", "t4", "--driver", "550.54.15", "--dry-run")
    assert run.returncode == 2
    assert "sm_75" in run.stderr


def test_a_choice_that_a_lock_has_made_otherwise_is_refused_and_not_passed_over(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml", "--with", "einops")
    words = ("create", "chosen", "--lock", str(path), *A100, "--dry-run")
    has = world.document(*words)["plan"]["torch"]
    assert world.provision(*words, "--torch", has, "--python", PYTHON, "--with", "einops").returncode == 0
    run = world.provision(*words, "--torch", "1.0", "--python", PYTHON, "--with", "wandb", "--json")
    assert run.returncode == 2
    error = json.loads(run.stdout)["error"]
    assert (error["code"], error["what"]) == ("lock-decides", "--lock decides that already: --torch 1.0, --with wandb")
    run = world.provision(*words, "--head-dims", "64", "--recipes", str(tmp_path), "--channel", "conda-forge")
    assert run.returncode == 2
    assert all(option in run.stderr for option in ("--head-dims", "--recipes", "--channel"))


def test_an_update_moves_the_named_package_and_nothing_else(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml")
    before = path.with_name("before-lock.yml")
    before.write_text(path.read_text())
    for name in ("trl", "peft"):
        make_wheel(world.root / "files", name, "99.0")
    write_index(world.root)
    try:
        document = world.document("lock", *A100, "--update", "trl", "-o", str(path))
        assert document["lock"]["packages"]
        changes = world.document("lock", "--diff", str(before), str(path))["changes"]
        assert [(row["name"], row["old"], row["new"]) for row in changes] == [("trl", "1.15.0", "99.0")]
        text = world.provision("lock", "--diff", str(before), "-o", str(path)).stdout
        assert text.split()[:4] == ["~", "pip", "trl", "1.15.0"]
        assert world.provision("lock", *A100, "--update", "no-such-package", "-o", str(path)).returncode == 2
        held = path.read_text()
        for option in (("--torch", "1.0"), ("--with", "rich")):
            run = world.provision("lock", *A100, "--update", "trl", "-o", str(path), *option)
            assert run.returncode == 2, "what the update passes over would stand in the lock as asked for"
            assert " ".join(option) in run.stderr
        assert path.read_text() == held
    finally:
        for wheel in (world.root / "files").glob("*-99.0-*"):
            wheel.unlink()
        write_index(world.root)


def test_a_lock_is_checked_against_itself_the_plan_and_the_machine(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml")
    whole = world.provision("lock", "--check", str(path), *A100)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    older = world.provision("lock", "--check", str(path), "--gpu", "t4", "--driver", "450.80.02", "--python", PYTHON, "--json")
    assert older.returncode == 1
    evidence = " ".join(row["evidence"] for row in json.loads(older.stdout)["findings"])
    assert "here is sm_75" in evidence
    assert "driver 450.80.02" in evidence
    fix = json.loads(older.stdout)["findings"][0]["fix"]
    assert fix.startswith("provision lock --gpu sm_75 --driver 450.80.02 --glibc ")
    assert fix.endswith(" -o new-lock.yml"), "the lock for the other machine stays"
    asked = len(world.server.requests)
    for old, new, said in (("name: triton", "name: tritom", "needs triton"), ("version: '0.50.2'", "version: '0.50.2'", None)):
        (tmp_path / "edited-lock.yml").write_text(path.read_text().replace(old, new))
        run = world.provision("lock", "--check", str(tmp_path / "edited-lock.yml"), *A100, "--offline")
        assert run.returncode == (1 if said else 0), run.stdout + run.stderr
        assert said is None or said in run.stdout
    conda = tmp_path / "broken-lock.yml"
    content = yaml.safe_load(path.read_text())
    content["package"] = [row for row in content["package"] if row["name"] != "libzlib"]
    conda.write_text(yaml.safe_dump(content))
    run = world.provision("lock", "--check", str(conda), *A100, "--offline")
    assert run.returncode == 1
    assert "libzlib" in run.stdout
    assert len(world.server.requests) == asked, "no network"


def test_a_lock_that_was_asked_for_with_wishes_is_still_right_and_keeps_them_when_a_package_moves(
    world: World, tmp_path: Path
) -> None:
    """Without a record of what was asked for, a check would find fault with it, and an update would drop it."""
    make_wheel(world.root / "files", "rich", "13.0")
    write_dated_index(world.root, {"": "2026-01-01"})
    path = lock(world, tmp_path / "conda-lock.yml", "--with", "rich<14", "--torch", "2.7.1", "--exclude-newer", "2026-02-01")
    whole = world.provision("lock", "--check", str(path), *A100)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    before = path.read_text()
    make_wheel(world.root / "files", "transformers", "99.0")
    write_dated_index(world.root, {"transformers-99.0": "2026-03-01", "": "2026-01-01"})
    document = world.document("lock", *A100, "--update", "transformers", "-o", str(path))
    assert document["changes"] == []
    assert path.read_text() == before, "nothing newer is there for the lock's day: not a byte moves"
    (change,) = world.document("lock", *A100, "--update", "transformers", "-o", str(path), "--exclude-newer", "2026-04-01")[
        "changes"
    ][1:]
    assert (change["name"], change["new"]) == ("transformers", "99.0")
    world.document("lock", *A100, "--update", "torch", "-o", str(path))
    assert "name: rich\n" in path.read_text()
    assert world.provision("lock", "--check", str(path), *A100).returncode == 0
    for page in (world.root / "simple").glob("*/index.json"):
        page.unlink()
    (world.root / "files/transformers-99.0-py3-none-any.whl").unlink()


def test_a_conda_package_moves_on_the_locks_own_channel_and_the_wheels_stay(world: World, tmp_path: Path) -> None:
    channel = make_channel(world.root / "moving")
    add_package(channel, "gcc_linux-64", "14.4.0", {"bin/cc": (b"", 0o755)})
    path = lock(world, tmp_path / "conda-lock.yml", "--backend", "conda", "--channel", f"{world.server.url}/moving")
    for name, version in (("gcc_linux-64", "14.5.0"), ("ninja", "99.0")):
        add_package(channel, name, version, {f"bin/{name}": (b"", 0o755)})
    (row,) = world.document("lock", *A100, "--update", "gcc_linux-64", "-o", str(path))["changes"]
    assert (row["what"], row["name"], row["old"], row["new"]) == ("conda", "gcc_linux-64", "14.4.0", "14.5.0")
    assert f"url: {world.server.url}/moving" in path.read_text()
    near = world.provision("lock", *A100, "--update", "transfomers", "-o", str(path))
    assert near.returncode == 2
    assert "did you mean transformers?" in near.stderr


def test_the_target_that_cannot_be_locked_is_named(world: World, tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    words = ("--gpu-class", "sm_80", "--gpu-class", "sm_61", "--driver", "550.54.15", "--python", PYTHON)
    run = world.provision("lock", *words, "-o", str(path))
    assert run.returncode == 3, run.stdout + run.stderr
    assert "for linux-64+sm_61: " in run.stderr
    assert not path.exists()


def test_a_lock_made_while_a_source_did_not_answer_is_judged_so(world: World, tmp_path: Path) -> None:
    """The choice rested on that: here the wheel's server is gone, so the plan is another one, without flash-attn."""
    page = world.root / "Dao-AILab/flash-attention/releases/index.html"
    text = page.read_text()
    page.unlink()
    needs = {"nvidia-cuda-runtime-cu12": "12.8.90", "triton": "3.6.0", "xformers": "0.0.35"}
    made = [make_wheel(world.root / "files", name, version) for name, version in needs.items()]
    requires = ["nvidia-cuda-runtime-cu12==12.8.90", "triton==3.6.0"]
    made.append(make_wheel(world.root / "files", "torch", "2.10.0", tag=f"{TAG}-{TAG}-manylinux_2_28_x86_64", requires=requires))
    write_index(world.root)
    try:
        path = lock(world, tmp_path / "conda-lock.yml", "--no-build")
    finally:
        page.write_text(text)
        for wheel in made:
            wheel.unlink()
        write_index(world.root)
    again = tmp_path / "again-lock.yml"
    run = world.provision("lock", *A100, "--no-build", "-o", str(again), "--offline")
    assert run.returncode == 0, "it was run once without --offline, as the error without kept answers says\n" + run.stderr
    assert again.read_bytes() == path.read_bytes()
    assert world.provision("lock", "--check", str(path), *A100, "--offline").returncode == 0
    content = yaml.safe_load(path.read_text())
    assert "releases" in content["metadata"]["custom_metadata"]["provision-unreachable"]
    run = world.provision("lock", "--check", str(path), *A100)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "releases" in run.stdout


def test_locks_of_other_tools_are_checked_compared_and_converted(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml", "--format", "pixi.lock", "--format", "cyclonedx")
    assert json.loads((tmp_path / "linux-64.cdx.json").read_text())["bomFormat"] == "CycloneDX"
    pixi = tmp_path / "pixi.lock"
    checked = world.provision("lock", "--check", str(pixi), *A100)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "made by pixi" in checked.stdout
    assert world.document("lock", "--diff", str(path), str(pixi))["changes"] == []
    content = yaml.safe_load(path.read_text())
    del content["metadata"]["custom_metadata"]
    for row in content["package"]:
        row.pop("build", None)  # conda-lock before 4.0 writes none
    theirs = tmp_path / "theirs-lock.yml"
    theirs.write_text(yaml.safe_dump(content))
    checked = world.provision("lock", "--check", str(theirs), *A100, "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["lock"]["made_by"] == "conda-lock"
    assert world.provision("lock", "--from", str(theirs), "--format", "environment.yml").returncode == 0
    assert "=None" not in (tmp_path / "environment-linux-64.yml").read_text()
    content["package"] = [row for row in content["package"] if row["name"] != "libzlib"]
    theirs.write_text(yaml.safe_dump(content))
    broken = world.provision("lock", "--check", str(theirs), *A100)
    assert broken.returncode == 1
    assert "libzlib" in broken.stdout
    assert "lock again with conda-lock" in broken.stdout
    refused = world.provision("lock", *A100, "--update", "torch", "-o", str(theirs))
    assert refused.returncode == 2
    assert "provision lock -o new-lock.yml" in refused.stderr, "theirs is not replaced"


def test_a_file_that_is_no_lock_is_refused_with_the_line_and_what_to_type(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml")
    cut = tmp_path / "cut-lock.yml"
    cut.write_text(path.read_text().partition("sha256: ")[0] + "sha")
    wrong = tmp_path / "wrong-lock.yml"
    text = path.read_text()
    wrong.write_text(text.replace("sha256: ", "sha256: x", 1))
    for place, said in ((cut, "line "), (wrong, "its sha256 is none"), (tmp_path, "is a folder")):
        for words in (("--check", str(place)), ("--diff", str(path), str(place)), ("--from", str(place), "--format", "pylock")):
            run = world.provision("lock", *words)
            assert run.returncode == 2, run.stdout + run.stderr
            assert said in run.stderr
            assert "next:" in run.stderr
            assert "Traceback" not in run.stderr


def test_a_place_that_cannot_be_written_is_refused_before_anybody_is_asked(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    asked = len(world.server.requests)
    for place in (tmp_path, tmp_path / "file/conda-lock.yml"):
        run = world.provision("lock", *A100, "-o", str(place))
        assert run.returncode == 2, run.stdout + run.stderr
        assert "cannot use" in run.stderr
    assert len(world.server.requests) == asked
    piped = world.provision("lock", *A100, "-q", "-o", "/dev/stdout")
    assert piped.returncode == 0, piped.stderr
    assert yaml.safe_load(piped.stdout)["version"] == 1
    assert (tmp_path / "file").read_text() == ""


def test_a_channel_that_dies_half_way_is_replaced_by_the_snapshot_and_a_named_one_is_an_error(
    world: World, tmp_path: Path
) -> None:
    dying = world.root / "dying/conda-forge"
    for subdir in ("linux-64", "noarch"):
        (dying / subdir).mkdir(parents=True, exist_ok=True)
        (dying / subdir / "repodata.json").write_text('{"info": {}, "packages": {')
    path = tmp_path / "conda-lock.yml"
    mirrors = world.environ["PROVISION_MIRRORS"].replace(f"{world.server.url}/conda", f"{world.server.url}/dying")
    run = world.provision("lock", *A100, "-o", str(path), PROVISION_MIRRORS=mirrors)
    assert run.returncode == 0, run.stderr
    assert "cannot be read" in run.stderr
    assert "embedded snapshot" in run.stderr
    assert "provision-snapshot" in path.read_text()
    path.unlink()
    run = world.provision("lock", *A100, "-o", str(path), "--channel", f"{world.server.url}/dying/conda-forge")
    assert run.returncode == 4, run.stdout + run.stderr
    assert not path.exists()


@pytest.mark.slow
def test_an_environment_that_was_changed_by_hand_has_drifted(world: World, tmp_path: Path) -> None:
    document = world.document("create", "drifting", *A100)
    assert world.provision("lock", "--check", "drifting", *A100).returncode == 0
    python = document["environment"]["python"]
    other = make_wheel(tmp_path, "peft", "0.1")
    install = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--python",
        python,
        "--no-deps",
        "--no-index",
        str(other),
    ]
    subprocess.run(install, check=True, capture_output=True, timeout=60)
    run = world.provision("lock", "--check", "drifting", *A100, "--json")
    assert run.returncode == 1
    assert [row["code"] for row in json.loads(run.stdout)["findings"]] == ["environment-drift"]
    (row,) = json.loads(run.stdout)["findings"]
    assert "peft is 0.1; locked is 0.21.2" in row["evidence"]
    assert row["fix"].startswith("provision create drifting --replace --lock ")
    assert world.provision(*shlex.split(row["fix"])[1:], "--dry-run", *A100).returncode == 0
    (python_site,) = Path(python).parents[1].glob("lib/python*/site-packages")
    (python_site / "trl-1.0.dist-info").mkdir()
    assert world.provision("lock", "--check", "drifting", *A100).returncode == 1, "a package cut off is passed over"


def test_other_formats_stand_beside_the_lock_and_hold_the_same_files(world: World, tmp_path: Path) -> None:
    words = [word for name in ("explicit", "environment.yml", "pylock") for word in ("--format", name)]
    path = lock(world, tmp_path / "conda-lock.yml", *words)
    content = yaml.safe_load(path.read_text())
    conda = [row for row in content["package"] if row["manager"] == "conda"]
    pip = [row for row in content["package"] if row["manager"] == "pip"]
    explicit = (tmp_path / "explicit-linux-64.txt").read_text().splitlines()
    assert {f"{row['url']}#sha256:{row['hash']['sha256']}" for row in conda} < set(explicit)
    assert {f"# pip {row['name']} @ {row['url']}#sha256={row['hash']['sha256']}" for row in pip} < set(explicit)
    environment = yaml.safe_load((tmp_path / "environment-linux-64.yml").read_text())
    assert [*environment["dependencies"][:-1]] == [f"{row['name']}={row['version']}={row['build']}" for row in conda]
    before = {name: (tmp_path / name).read_text() for name in ("explicit-linux-64.txt", "pylock.linux-64.toml")}
    for name in before:
        (tmp_path / name).unlink()
    assert world.provision("lock", "--from", str(path), *words[:2], *words[4:]).returncode == 0
    assert (tmp_path / "explicit-linux-64.txt").read_text() == before["explicit-linux-64.txt"]
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--dry-run", "--target", str(tmp_path / "t"), "--no-deps"]
    run = subprocess.run(
        [*uv, "-r", "pylock.linux-64.toml"], cwd=tmp_path, capture_output=True, text=True, timeout=60, env=world.environ
    )
    assert "torch==2.7.1" in run.stdout + run.stderr, "uv takes it as a lock"


def digest(world: World, tmp_path: Path, name: str, **variables: str) -> str:
    path = tmp_path / name / "conda-lock.yml"
    path.parent.mkdir()
    command = [sys.executable, "-m", "provisioner", "lock", *A100, "-o", str(path)]
    environ = {**world.environ, **variables}
    umask = int(variables.get("UMASK", "022"), 8)
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environ, umask=umask)
    assert run.returncode == 0, run.stderr
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_inputs_give_the_same_bytes_whatever_the_shell_and_the_caches(world: World, tmp_path: Path) -> None:
    cold = {"PROVISION_CACHE_DIR": str(tmp_path / "cold")}
    knowledge = tmp_path / "cold/knowledge"
    knowledge.parent.mkdir()
    subprocess.run(["cp", "-r", str(world.home / "cache/knowledge"), str(knowledge)], check=True)
    found = {
        "another shell": digest(world, tmp_path, "shell", LC_ALL="C", TZ="Asia/Kathmandu", PYTHONHASHSEED="1", UMASK="077"),
        "cold": digest(world, tmp_path, "cold-run", PYTHONHASHSEED="2", PYTHONUTF8="0", LANG="POSIX", **cold),
        "warm": digest(world, tmp_path, "warm-run", PYTHONHASHSEED="3", **cold),
    }
    assert len(set(found.values())) == 1, found


def test_a_torch_outside_of_what_unsloth_takes_names_both_and_what_would_go(world: World, tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    run = world.provision("lock", *A100, "--with", "unsloth-zoo<2000", "-o", str(path))
    assert run.returncode == 3, run.stderr
    assert "unsloth-zoo" in run.stderr
    assert "unsloth-zoo 2026.10.9 goes with all the rest" in run.stderr
    assert not path.exists()


@pytest.mark.parametrize("backend", ["conda", "venv"])
def test_a_changed_snapshot_is_exit_5_and_nothing_is_made(world: World, tmp_path: Path, repository: Path, backend: str) -> None:
    """On a copy of the program, whose snapshot somebody changed by a byte."""
    for name in ("provisioner", "recipes"):
        shutil.copytree(repository / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "provisioner/locking/snapshot_data/noarch.json.gz").open("ab") as file:
        file.write(b"x")
    path = tmp_path / "conda-lock.yml"
    environ = {**world.environ, "PROVISION_DATA_DIR": str(tmp_path / "data")}
    commands = [["lock", "-o", str(path)], *([["create", "evil"]] if backend == "venv" else [])]
    for words in commands:
        command = [sys.executable, "-m", "provisioner", *words, *A100, "--backend", backend]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environ)
        assert run.returncode == 5, run.stdout + run.stderr
        assert "noarch.json.gz" in run.stderr
    assert not path.exists()
    assert not (tmp_path / "data/envs").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--check", "x.yml", "--exclude-newer", "2026-01-01"),
        ("--check", "x.yml", "-o", "y.yml"),
        ("--diff", "a", "--format", "pylock"),
        ("--from", "a", "--format", "pylock", "--channel", "conda-forge"),
        ("--from", "a", "--format", "pylock", "--gpu", "a100"),
        ("--diff", "a", "--torch", "2.9"),
        ("--diff", "a", "b", "-o", "c"),
        ("--gpu", "v100", "--gpu-class", "sm_90"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(world: World, words: tuple[str, ...]) -> None:
    run = world.provision("lock", *words)
    assert run.returncode == 2, run.stdout
    assert "away" in run.stderr


def test_a_lock_without_a_hash_is_refused_before_anything_is_made(world: World, tmp_path: Path) -> None:
    path = lock(world, tmp_path / "conda-lock.yml")
    content = yaml.safe_load(path.read_text())
    content["package"][-1]["hash"] = {"md5": "0" * 32}
    path.write_text(yaml.safe_dump(content))
    for words in (
        ("create", "x", "--lock", str(path), "--dry-run", *A100),
        ("bundle", str(path), "-o", str(tmp_path / "b"), "--dry-run"),
    ):
        run = world.provision(*words)
        assert run.returncode == 5, run.stdout + run.stderr
        assert "without a sha256" in run.stderr


def test_find_links_with_another_torch_are_left_out_and_what_fits_nowhere_is_told_by_them(world: World, tmp_path: Path) -> None:
    """pip's find-links folder holds a CPU build of the plan's torch, which sorts above the index's."""
    make_wheel(tmp_path / "links", "torch", f"{TORCH}+cpu", tag=f"{TAG}-{TAG}-manylinux_2_28_x86_64")
    path = tmp_path / "conda-lock.yml"
    links = {
        "UV_DEFAULT_INDEX": "",  # with it, pip's settings are not read
        "PIP_INDEX_URL": world.environ["UV_DEFAULT_INDEX"],
        "PIP_FIND_LINKS": str(tmp_path / "links"),
    }
    run = world.provision("lock", *A100, "-o", str(path), "--refresh", **links)
    assert run.returncode == 0, run.stderr
    assert "the find-links of your pip settings are left out" in run.stderr
    assert "+cpu" not in path.read_text()
    before = path.read_text()
    run = world.provision("lock", *A100, "--update", "trl", "-o", str(path), "--refresh", **links)
    assert run.returncode == 0, run.stderr
    assert path.read_text() == before
    make_wheel(tmp_path / "links", "private", "1.0", requires=["absent-package"])
    run = world.provision("lock", *A100, "-o", str(path), "--with", "private", "--refresh", **links)
    assert run.returncode == 3
    assert "absent-package" in run.stderr, "the reason is why it does not fit, not that it is missing elsewhere"


@pytest.mark.parametrize(
    "words",
    [("--check", "x.yml", "--update", "torch"), ("--update", "torch", "--gpu-class", "sm_80"), ("--diff", "a", "--from", "b")],
)
def test_two_tasks_at_once_are_refused(world: World, words: tuple[str, ...]) -> None:
    run = world.provision("lock", *words)
    assert run.returncode == 2, run.stdout
    assert "does not go with" in run.stderr


@pytest.mark.parametrize("settings", ["pip", "conda"])
def test_the_proxy_of_pips_or_condas_settings_serves_every_request(world: World, tmp_path: Path, settings: str) -> None:
    """The index's name resolves nowhere: only the proxy, which here is the server itself, leads to it."""
    path, home = tmp_path / "conda-lock.yml", tmp_path / "home"
    home.mkdir()
    variables = {"HOME": str(home), "UV_DEFAULT_INDEX": "http://index.invalid/simple", "no_proxy": "", "NO_PROXY": ""}
    alone = world.provision("lock", *A100, "-o", str(path), "--refresh", **variables)
    assert alone.returncode == 4, alone.stdout + alone.stderr
    if settings == "conda":
        (home / ".condarc").write_text(f"proxy_servers:\n  http: {world.server.url}\n")
    else:
        variables |= {"UV_DEFAULT_INDEX": "", "PIP_CONFIG_FILE": str(home / "pip.conf")}
        (home / "pip.conf").write_text(f"[global]\nindex-url = http://index.invalid/simple\nproxy = {world.server.url}\n")
    run = world.provision("lock", *A100, "-o", str(path), "--refresh", **variables)
    assert run.returncode == 0, run.stderr
    assert "http://index.invalid/files/torch-" in path.read_text()
    bundled = world.provision("bundle", str(path), "-o", str(tmp_path / "bundle"), **variables)
    assert bundled.returncode == 0, bundled.stderr


def test_an_unknown_mirror_lists_the_known_ones(world: World) -> None:
    run = world.provision("lock", *A100, "--mirror", "nowhere")
    assert run.returncode == 2
    assert "tuna" in run.stderr


def test_a_package_channel_in_condarc_serves_conda_forge_and_the_lock_keeps_the_canonical_address(
    world: World, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".condarc").write_text(f"custom_channels:\n  conda-forge: {world.server.url}/mirror\n")
    (world.root / "mirror").mkdir()
    (world.root / "mirror/conda-forge").symlink_to(world.root / "channel")
    path = tmp_path / "conda-lock.yml"
    mirrors = " ".join(pair for pair in world.environ["PROVISION_MIRRORS"].split() if "conda" not in pair)
    variables = {"HOME": str(home), "PROVISION_MIRRORS": mirrors}
    run = world.provision("lock", *A100, "--backend", "conda", "-o", str(path), **variables)
    assert run.returncode == 0, run.stderr
    text = path.read_text()
    assert "https://conda.anaconda.org/conda-forge/linux-64/gcc_linux-64-14.4.0-0.conda" in text
    assert "provision-snapshot" not in text
    assert any(request[1].startswith("/mirror/conda-forge/linux-64") for request in world.server.requests)


@pytest.mark.slow
def test_two_hundred_locks_in_a_row_end_well(world: World, tmp_path: Path) -> None:
    """py-rattler 0.28 can crash the interpreter that loaded it at its end; see `provisioner.cli.app.main`."""
    path = tmp_path / "conda-lock.yml"
    codes = [world.provision("lock", *A100, "-q", "-o", str(path)).returncode for _ in range(200)]
    assert codes == [0] * 200
