from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from provisioner import codec, download
from provisioner.environments import bundling
from provisioner.environments.bundle_opening import opened
from provisioner.environments.bundling import forecast, make_bundle, order
from provisioner.errors import Busy, IntegrityError, NoRoute, SourceUnreachable, UsageError
from provisioner.locking.conda_lock_file import write_lock
from provisioner.locking.values import Lock, LockedPackage
from provisioner.machine.facts import Machine, Platform
from tests.conda_channel import PLATFORM
from tests.distributions import make_wheel
from tests.environments.bundles import bundle_here, lock_of, plan, write_files
from tests.servers import serve

pytestmark = pytest.mark.integration


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_lock_gives_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    first = bundle_here(tmp_path / "root", tmp_path / "first")
    lock = tmp_path / "root/conda-lock.yml"
    umask = os.umask(0o077)
    try:
        make_bundle(order(lock, tmp_path / "second"))
        for name in ("a.tar", "b.tar"):
            make_bundle(order(lock, tmp_path / name))
    finally:
        os.umask(umask)
    assert contents(first) == contents(tmp_path / "second")
    assert set(contents(first)) >= {"bundle.json", "conda-lock.yml", "index/toy-1.0-py3-none-any.whl"}
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == [], "no parts are left beside it"


def test_a_bundle_that_failed_half_way_fetches_only_what_is_missing(tmp_path: Path) -> None:
    write_files(tmp_path / "root", ("one", "three"))
    last = make_wheel(tmp_path / "root/files", "two", "1.0", files={"two/data": os.urandom(8 * 2**20)})
    good = last.read_bytes()
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        last.write_bytes(good[:-1] + b"x")
        with pytest.raises(IntegrityError):
            make_bundle(order(lock, tmp_path / "bundle"))
        assert sorted(path.name[:3] for path in (tmp_path / "bundle/index").iterdir()) == ["one", "thr"]
        assert not (tmp_path / "bundle/bundle.json").exists(), "what is not complete does not look so"
        last.write_bytes(good)
        server.requests.clear()
        make_bundle(order(lock, tmp_path / "bundle"))
        fetched = [path for _, path, byte_range in server.requests if byte_range is None]
    assert fetched == ["/files/two-1.0-py3-none-any.whl"]


def test_a_file_that_no_server_has_is_said_before_gigabytes_are_fetched(tmp_path: Path) -> None:
    write_files(tmp_path / "root")
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        (tmp_path / "root/files/toy-1.0-py3-none-any.whl").unlink()
        with pytest.raises(SourceUnreachable):
            make_bundle(order(lock, tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


def test_a_transfer_that_broke_off_continues_in_the_middle(tmp_path: Path) -> None:
    write_files(tmp_path / "root", ())
    make_wheel(tmp_path / "root/files", "toy", "1.0", files={"toy/data": os.urandom(3 * 2**20)})
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        server.broken_after = 2 * 2**20
        make_bundle(order(lock, tmp_path / "bundle"))
        ranges = [byte_range for _, path, byte_range in server.requests if path.endswith(".whl")]
    assert f"bytes={2 * 2**20}-" in ranges


def test_what_the_server_swapped_is_refused_and_the_bundle_stays_incomplete(tmp_path: Path) -> None:
    write_files(tmp_path / "root")
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        make_wheel(tmp_path / "root/files", "lib", "1.0", files={"lib/__init__.py": "evil = True\n"})
        with pytest.raises(IntegrityError):
            make_bundle(order(lock, tmp_path / "bundle"))
    assert not (tmp_path / "bundle/bundle.json").exists()
    assert not list((tmp_path / "bundle/index").glob("lib*"))


@pytest.mark.parametrize("place", ["bundle", "bundle.tar"])
def test_a_bundle_of_a_newer_lock_takes_what_is_there_and_drops_what_is_not_needed_any_more(tmp_path: Path, place: str) -> None:
    write_files(tmp_path / "root")
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        make_bundle(order(lock, tmp_path / place))
        (tmp_path / "root/files/lib-1.0-py3-none-any.whl").unlink()
        make_wheel(tmp_path / "root/files", "new", "1.0")
        lock_of(tmp_path / "root", server.url, lock)
        server.requests.clear()
        manifest = make_bundle(order(lock, tmp_path / place))
        fetched = {path for _, path, byte_range in server.requests if byte_range is None}
    assert fetched == {"/files/new-1.0-py3-none-any.whl"}
    assert [file.path.split("-")[0] for file in manifest.files] == ["index/new", "index/toy"]
    if place == "bundle":
        assert sorted(path.name.split("-")[0] for path in (tmp_path / "bundle/index").iterdir()) == ["new", "toy"]


def test_the_forecast_knows_the_sizes_before_anything_is_fetched(tmp_path: Path) -> None:
    write_files(tmp_path / "root")
    sizes = [path.stat().st_size for path in (tmp_path / "root/files").iterdir()]
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        cost = forecast(order(lock, tmp_path / "bundle"))
        assert (cost.files, cost.bytes, cost.to_fetch, cost.unknown) == (2, sum(sizes), sum(sizes), 0)
        assert server.sent < 10, "one byte of each at most"
        make_bundle(order(lock, tmp_path / "bundle"))
        assert forecast(order(lock, tmp_path / "bundle")).to_fetch == 0
        server.ranges = False
        assert forecast(order(lock, tmp_path / "elsewhere")).unknown == 2
    assert not (tmp_path / "elsewhere").exists()


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "root")
    monkeypatch.setattr(bundling.shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    with serve(tmp_path / "root") as server:
        lock = lock_of(tmp_path / "root", server.url, tmp_path / "conda-lock.yml")
        with pytest.raises(NoRoute) as caught:
            make_bundle(order(lock, tmp_path / "bundle"))
    assert caught.value.code == "disk-or-tmp-full"
    assert not (tmp_path / "bundle").exists()


def test_somebodys_folder_is_not_filled(tmp_path: Path) -> None:
    write_files(tmp_path / "root")
    lock = lock_of(tmp_path / "root", tmp_path.as_uri(), tmp_path / "conda-lock.yml")
    with pytest.raises(UsageError) as caught:
        order(lock, tmp_path)
    assert caught.value.code == "not-a-bundle"


def test_two_processes_do_not_write_one_bundle(tmp_path: Path) -> None:
    write_files(tmp_path / "root")
    made = order(lock_of(tmp_path / "root", (tmp_path / "root").as_uri(), tmp_path / "conda-lock.yml"), tmp_path / "bundle")
    with bundling._held(made.folder), pytest.raises(Busy):
        make_bundle(made)


@pytest.mark.skipif(PLATFORM != "linux-64", reason="the other platform is named here")
def test_of_a_lock_for_two_platforms_the_one_that_is_named_is_bundled_and_another_machine_is_told(tmp_path: Path) -> None:
    names = {"linux-64": "toy", "linux-aarch64": "lib"}
    write_files(tmp_path, tuple(names.values()))
    files = {platform: next((tmp_path / "files").glob(f"{name}-*")) for platform, name in names.items()}
    packages = tuple(
        LockedPackage("toy", "1.0", "pip", platform, file.as_uri(), download.file_sha256(file))
        for platform, file in files.items()
    )
    text = json.dumps(codec.to_builtins(plan("venv")), sort_keys=True)
    lock = tmp_path / "both-lock.yml"
    write_lock(Lock("linux-64", packages, (), {"provision-plan": text}, tuple(names)), lock)
    manifest = make_bundle(order(lock, tmp_path / "arm", "aarch64"))
    assert (manifest.platform, [file.path for file in manifest.files]) == (
        "linux-aarch64",
        [f"index/{files['linux-aarch64'].name}"],
    )
    assert make_bundle(order(lock, tmp_path / "here")).platform == "linux-64"
    write_lock(Lock("linux-64", packages[:1], (), {"provision-plan": text}), tmp_path / "one-lock.yml")
    with pytest.raises(UsageError) as lacking:
        order(tmp_path / "one-lock.yml", tmp_path / "other", "aarch64")
    assert lacking.value.code == "lock-lacks-target"
    with opened(tmp_path / "arm", machine=Machine(platform=Platform(machine="aarch64"))) as bundle:
        assert bundle.locked.lock.platform == "linux-aarch64"
    with pytest.raises(UsageError) as caught, opened(tmp_path / "arm", machine=Machine(platform=Platform(machine="x86_64"))):
        pass
    assert (caught.value.exit_code, caught.value.code) == (2, "bundle-platform")
    assert "--platform linux-64" in caught.value.hints[0]
