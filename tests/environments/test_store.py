from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioner import paths
from provisioner.environments import store
from provisioner.environments.manifest import Manifest, manifest_path, read_manifest
from provisioner.errors import Busy, UsageError
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan, Route


def manifest(generation: store.Generation, previous: str | None = None) -> Manifest:
    plan = Plan("cpu", Route.NONE, "3.11", "2.13.0", None, None)
    return Manifest(
        generation.name, generation.id, "venv", "2026-11-24T00:00:00+00:00", "0", plan, Machine(), "0" * 64, previous=previous
    )


def make(name: str, previous: str | None = None) -> store.Environment:
    with store.new_generation(name) as generation:
        (generation.prefix / "file").write_text(generation.id)
        return generation.commit(manifest(generation, previous))


def test_an_environment_is_found_by_name_with_its_manifest() -> None:
    made = make("env")
    found = store.find("env")
    assert found == made
    assert found.prefix.is_dir()
    assert not found.prefix.is_symlink()
    assert len(found.prefix.name) <= 12
    assert read_manifest(found.prefix).name == "env"
    assert [environment.name for environment in store.all_environments()] == ["env"]


def test_a_missing_environment_is_refused_with_those_there_are() -> None:
    make("other")
    with pytest.raises(UsageError) as caught:
        store.find("env")
    assert "other" in caught.value.hints[0]


def test_a_failure_leaves_the_old_environment_and_nothing_of_the_new_one() -> None:
    old = make("env")

    def fail() -> None:
        with store.new_generation("env") as generation:
            (generation.prefix / "half").write_text("made")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert store.find("env") == old
    assert list(paths.generations_dir().iterdir()) == [old.prefix]


def test_replacing_keeps_the_previous_generation_for_rollback_and_no_older_one() -> None:
    first = make("env")
    second = make("env", first.prefix.name)
    store.prune(second)
    third = make("env", second.prefix.name)
    store.prune(third)
    assert {path.name for path in paths.generations_dir().iterdir()} == {second.prefix.name, third.prefix.name}
    assert store.rollback("env") == second
    assert store.find("env").prefix == second.prefix
    with pytest.raises(UsageError, match="no previous"):
        store.rollback("env")


def test_removing_takes_all_generations_and_the_name() -> None:
    first = make("env")
    make("env", first.prefix.name)
    store.remove("env")
    assert not store.exists("env")
    assert list(paths.generations_dir().iterdir()) == []


MAKER = """
import sys, time
from provisioner.environments import store
with store.new_generation("env") as generation:
    (generation.prefix / "half").write_text("made")
    print(generation.prefix, flush=True)
    time.sleep(60)
"""


@pytest.mark.subprocess
def test_what_a_killed_process_left_is_swept_and_what_a_living_one_makes_is_not() -> None:
    old = make("env")
    with subprocess.Popen([sys.executable, "-c", MAKER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        prefix = Path(child.stdout.readline().strip())
        assert store.sweep() == []
        child.kill()
        child.wait()
    assert prefix.exists()
    assert store.sweep() == [prefix]
    assert not prefix.exists()
    assert store.find("env") == old


@pytest.mark.subprocess
def test_an_environment_in_use_is_not_removed() -> None:
    environment = make("env")
    program = environment.prefix / "bin" / "sleeper"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/sleep").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([str(program), "60"]) as child:
        time.sleep(0.2)
        with pytest.raises(Busy) as caught:
            store.remove("env")
        assert str(child.pid) in caught.value.what
        child.kill()
    store.remove("env")
    assert not store.exists("env")


HOLDER = """
import time
from provisioner.environments import store
with store.held("env"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.subprocess
def test_a_name_that_another_process_works_on_is_refused_at_once() -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(Busy) as caught, store.held("env"):
            pass
        child.kill()
    assert caught.value.exit_code == 8
    with store.held("env"):
        pass


def test_replacing_leaves_the_environment_of_the_same_name_in_another_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROVISION_ENVS_DIR", str(tmp_path / "a"))
    theirs = make("env")
    monkeypatch.setenv("PROVISION_ENVS_DIR", str(tmp_path / "b"))
    first = make("env")
    second = make("env", first.prefix.name)
    store.prune(make("env", second.prefix.name))
    store.remove("env")
    assert [prefix.name for prefix in paths.generations_dir().iterdir()] == [theirs.prefix.name]
    monkeypatch.setenv("PROVISION_ENVS_DIR", str(tmp_path / "a"))
    assert store.find("env") == theirs


def test_removing_after_a_rollback_takes_the_newer_generation_too() -> None:
    first = make("env")
    make("env", first.prefix.name)
    store.rollback("env")
    store.remove("env")
    assert list(paths.generations_dir().iterdir()) == []


def test_what_a_removal_that_was_killed_leaves_is_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    first = make("env")
    second = make("env", first.prefix.name)

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete_prefix", killed)
        with pytest.raises(KeyboardInterrupt):
            store.remove("env")
    old = time.time() - 60
    for prefix in (first.prefix, second.prefix):
        os.utime(prefix, (old, old))
    assert set(store.sweep()) == {first.prefix, second.prefix}


@pytest.mark.parametrize("fault", ["gone", "damaged"])
def test_a_broken_environment_says_so_and_can_be_removed_and_replaced(fault: str) -> None:
    environment = make("env")
    if fault == "gone":
        shutil.rmtree(environment.prefix)
    else:
        manifest_path(environment.prefix).write_text("{")
    assert (store.survey(), store.current("env")) == (([], ["env"]), None)
    with pytest.raises(UsageError, match="is broken") as caught:
        store.find("env")
    assert any("provision remove env" in hint for hint in caught.value.hints)
    store.remove("env")
    assert not store.exists("env")
    assert not environment.prefix.exists()


def test_what_another_host_or_container_makes_is_left_alone_for_a_day() -> None:
    with store.new_generation("env") as generation:
        owner = generation.prefix / ".provision" / "owner.json"
        facts = json.loads(owner.read_text())
        owner.write_text(json.dumps({**facts, "host": "elsewhere", "pid": 2**22 + 1}))
        assert store.sweep() == []
        old = time.time() - store.FOREIGN_SECONDS - 1
        os.utime(owner, (old, old))
        assert store.sweep() == [generation.prefix]


@pytest.mark.subprocess
def test_a_python_of_the_host_that_runs_for_the_environment_uses_it() -> None:
    environment = make("env")
    code = "import time; print('up', flush=True); time.sleep(60)"
    env = {**os.environ, "VIRTUAL_ENV": str(environment.prefix)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=env) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert store.users(environment.prefix) == [child.pid]
        child.kill()
    assert store.users(environment.prefix) == []
