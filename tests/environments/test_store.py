from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from provisioner import paths
from provisioner.environments import store
from provisioner.environments.manifest import Manifest, read_manifest
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
