"""How the package index is asked: once in ten minutes for the same question, PyTorch's index for torch alone, mirrors for everybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from provisioner import download, kept_answers
from provisioner.errors import NoRoute, SourceUnreachable, UsageError
from provisioner.indexes import IndexSettings, flat_torch_index
from provisioner.locking.pypi_part import Target, resolve
from provisioner.locking.resolution import read_annotations
from provisioner.locking.values import end_of_day
from tests.distributions import make_wheel
from tests.servers import FileServer, serve, write_dated_index, write_index

TARGET = Target("3.12", "x86_64", "2.31")


@contextmanager
def index(root: Path, **requires: list[str]) -> Iterator[tuple[FileServer, IndexSettings]]:
    """Serve wheels given as ``name_1_0=[requirements]``."""
    for stem, needs in requires.items():
        name, _, version = stem.partition("_")
        make_wheel(root / "files", name, version.replace("_", "."), requires=needs)
    write_index(root)
    with serve(root) as server:
        yield server, IndexSettings("pip", f"{server.url}/simple")


def test_annotations_say_who_needs_whom() -> None:
    text = "numpy==2.4.0              # via scipy, torch\nscipy==1.16  # via wanted (pyproject.toml)\nx[y]==1 # via torch[z]\n"
    assert read_annotations(text) == {"scipy": ["numpy"], "torch": ["numpy", "x"]}


@pytest.mark.integration
def test_the_lock_knows_what_each_package_requires(tmp_path: Path) -> None:
    with index(tmp_path, app_1_0=["lib>=1", 'old; python_version < "3.9"'], lib_1_0=["base"], base_1_0=[]) as (_, settings):
        locked = resolve(["app"], TARGET, settings)
    assert {package.name: package.dependencies for package in locked} == {"app": {"lib": "*"}, "lib": {"base": "*"}, "base": {}}


@pytest.mark.integration
def test_a_kept_torch_keeps_what_it_requires_beside_a_labelled_build_of_it(tmp_path: Path) -> None:
    with index(tmp_path, torch_1_0=["runtime"], runtime_1_0=[]) as (_, settings):
        make_wheel(tmp_path / "links", "torch", "1.0+cpu")
        linked = replace(settings, find_links=(str(tmp_path / "links"),))
        locked = resolve(["torch"], TARGET, linked, previous={"torch": "1.0"})
    assert {package.name: package.dependencies for package in locked} == {"runtime": {}, "torch": {"runtime": "*"}}


@pytest.mark.integration
def test_the_same_question_is_not_asked_again_for_ten_minutes_unless_the_user_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with index(tmp_path, app_1_0=[]) as (server, settings):
        resolve(["app"], TARGET, settings)
        make_wheel(tmp_path / "files", "app", "2.0")
        write_index(tmp_path)
        asked = len(server.requests)
        assert resolve(["app"], TARGET, settings)[0].version == "1.0"
        assert len(server.requests) == asked
        assert resolve(["app>=1"], TARGET, settings)[0].version == "2.0", "another question is asked"
        token = kept_answers.refresh.set(True)
        assert resolve(["app"], TARGET, settings)[0].version == "2.0"
        kept_answers.refresh.reset(token)
        make_wheel(tmp_path / "files", "app", "3.0")
        write_index(tmp_path)
        monkeypatch.setattr(kept_answers, "KEPT_SECONDS", 0)
        assert resolve(["app"], TARGET, settings)[0].version == "3.0", "an old answer is not taken as fresh"


@pytest.mark.integration
def test_a_new_file_in_a_local_folder_of_wheels_is_seen_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "wheels"
    make_wheel(folder, "app", "1.0")
    settings = IndexSettings("pip", None, find_links=(str(folder),), no_index=True)
    assert resolve(["app"], TARGET, settings)[0].version == "1.0"
    make_wheel(folder, "app", "2.0")
    assert resolve(["app"], TARGET, settings)[0].version == "2.0"


@pytest.mark.integration
def test_torch_and_its_companions_come_from_their_index_and_nothing_else_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytorch = tmp_path / "pytorch"
    for name, needs in (("torch", ["lib"]), ("torchvision", ["torch"]), ("lib", [])):
        make_wheel(pytorch / "files", name, "9.0+cu126", requires=needs)
    write_index(pytorch, "whl/cu126")
    with (
        index(tmp_path, torch_10_0=[], torchvision_10_0=[], lib_1_0=[], app_1_0=["torchvision"]) as (server, settings),
        serve(pytorch) as other,
    ):
        monkeypatch.setenv(download.MIRRORS_VARIABLE, f"https://download.pytorch.org={other.url}")
        # the index page names its files from the server's root, as PyTorch's does
        for page in (pytorch / "whl/cu126").glob("*/index.html"):
            folder = pytorch / "whl/cu126"
            for wheel in (pytorch / "files").iterdir():
                (folder / wheel.name).write_bytes(wheel.read_bytes())
            page.write_text(page.read_text().replace("../../files/", "/whl/cu126/"))
        locked = {package.name: package for package in resolve(["torch", "app"], TARGET, settings, torch_index="cu126")}
    assert {name: package.version for name, package in locked.items()} == {
        "app": "1.0",
        "lib": "1.0",
        "torch": "9.0+cu126",
        "torchvision": "9.0+cu126",
    }
    assert locked["torch"].url.startswith("https://download.pytorch.org/whl/cu126/torch-9.0"), (
        "the lock keeps the canonical address"
    )
    assert locked["lib"].url.startswith(server.url)


@pytest.mark.integration
def test_a_mirror_that_is_a_page_of_links_without_hashes_serves_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(tmp_path / "mirror/cu126", "torch", "9.0+cu126")
    (tmp_path / "mirror/cu126/index.html").write_text(f'<html><a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a></html>')
    token = flat_torch_index.set(True)
    try:
        with index(tmp_path, lib_1_0=[]) as (server, settings):
            monkeypatch.setenv(download.MIRRORS_VARIABLE, f"https://download.pytorch.org/whl={server.url}/mirror")
            torch = resolve(["torch", "lib"], TARGET, settings, torch_index="cu126")[1]
    finally:
        flat_torch_index.reset(token)
    assert torch.sha256 == download.file_sha256(wheel), "a hash that nobody publishes is that of the file that came"
    assert torch.url == "https://download.pytorch.org/whl/cu126/torch-9.0%2Bcu126-py3-none-any.whl"


@pytest.mark.integration
def test_only_the_package_that_is_named_moves_and_what_it_forces(tmp_path: Path) -> None:
    wheels = {"app_1_0": [], "app_2_0": ["lib>=2"], "lib_1_0": [], "lib_2_0": [], "other_1_0": [], "other_2_0": []}
    with index(tmp_path, **wheels) as (_, settings):
        before = {"app": "1.0", "lib": "1.0", "other": "1.0"}
        wanted = ["app", "lib", "other"]
        kept = resolve(wanted, TARGET, settings, previous=before)
        moved = resolve(wanted, TARGET, settings, previous=before, moving=["app"])
    assert [package.version for package in kept] == ["1.0", "1.0", "1.0"]
    assert [package.version for package in moved] == ["2.0", "2.0", "1.0"]


@pytest.mark.integration
def test_the_pin_that_blocks_and_the_version_that_would_go_are_named(tmp_path: Path) -> None:
    with (
        index(tmp_path, unsloth_1_0=["torch>=2.4,<2.15"], torch_2_14=[], torch_2_15=[]) as (_, settings),
        pytest.raises(NoRoute) as caught,
    ):
        resolve(["unsloth", "torch==2.15"], TARGET, settings)
    assert "unsloth" in (caught.value.why or "")
    assert caught.value.hints[0] == "torch 2.14 goes with all the rest; torch==2.15 does not"


@pytest.mark.integration
def test_a_torch_without_wheels_for_the_python_is_named_with_one_that_has_them(tmp_path: Path) -> None:
    for version, python in (("2.4", "cp311"), ("2.9", "cp312")):
        make_wheel(tmp_path / "files", "torch", version, tag=f"{python}-{python}-manylinux_2_28_x86_64")
    with index(tmp_path) as (_, settings), pytest.raises(NoRoute) as caught:
        resolve(["torch==2.4"], TARGET, settings)
    assert "cp312" in (caught.value.why or "")
    assert caught.value.hints[0].startswith("torch 2.9 goes")


@pytest.mark.integration
def test_a_day_that_is_too_early_is_answered_with_one_that_goes(tmp_path: Path) -> None:
    """Packages that nobody pins may be as old as the day; the newest of what is pinned decides."""
    for name, version in (("torch", "2.12"), ("torch", "2.13"), ("numpy", "1.0"), ("numpy", "2.0")):
        make_wheel(tmp_path / "files", name, version)
    write_dated_index(
        tmp_path, {"torch-2.12": "2026-03-01", "torch": "2026-07-08", "numpy-1": "2025-01-01", "numpy": "2026-11-01"}
    )
    with serve(tmp_path) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")

        def locked(*requirements: str, day: str) -> list[str]:
            date = end_of_day(datetime.fromisoformat(day).replace(tzinfo=timezone.utc))
            return [package.version for package in resolve(requirements, TARGET, settings, exclude_newer=date)]

        assert locked("torch", "numpy", day="2026-04-01") == ["1.0", "2.12"]
        with pytest.raises(NoRoute) as caught:
            locked("torch==2.13", "numpy", day="2026-04-01")
        assert (
            "--exclude-newer 2026-07-08 goes: torch 2.13, the newest of what is wanted, came on 2026-07-08" in caught.value.hints
        )
        assert "exclude-newer-package" not in (caught.value.why or ""), "an option of uv's, which provision has not"
        assert locked("torch==2.13", "numpy", day="2026-07-08") == ["1.0", "2.13"]
        with pytest.raises(NoRoute) as never:
            locked("torch==3", day="2026-04-01")
    assert not any("goes" in hint and "--exclude-newer" in hint for hint in never.value.hints)


@pytest.mark.integration
def test_a_login_page_is_not_taken_for_an_index_that_lacks_the_package(tmp_path: Path) -> None:
    (tmp_path / "simple/app").mkdir(parents=True)
    (tmp_path / "simple/app/index.html").write_text("<html><body>Welcome to the hotel. Please log in.</body></html>")
    with serve(tmp_path) as server, pytest.raises(SourceUnreachable) as caught:
        resolve(["app"], TARGET, IndexSettings("pip", f"{server.url}/simple"))
    assert (caught.value.exit_code, caught.value.code) == (4, "not-an-index")
    assert "127.0.0.1" in caught.value.what


@pytest.mark.integration
def test_an_index_that_fails_half_way_is_no_conflict_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with index(tmp_path, app_1_0=["lib"], lib_1_0=[]) as (_, settings):
        (tmp_path / "simple/lib/index.html").unlink()
        (tmp_path / "simple/lib/index.json").write_text("{")
        with pytest.raises(SourceUnreachable) as caught:
            resolve(["app"], TARGET, settings)
    assert caught.value.exit_code == 4


@pytest.mark.integration
def test_offline_with_nothing_at_hand_says_so_and_blames_no_package(tmp_path: Path) -> None:
    with index(tmp_path, app_1_0=[]) as (_, settings):
        token = download.offline.set(True)
        try:
            with pytest.raises(SourceUnreachable) as caught:
                resolve(["app"], TARGET, settings)
        finally:
            download.offline.reset(token)
    assert (caught.value.exit_code, caught.value.code) == (4, "offline")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("UV_CONSTRAINT", "/absent/constraints.txt", "/absent/constraints.txt"),
        ("UV_OVERRIDE", "{tmp}/bad.txt", "bad.txt"),
        ("UV_INDEX_STRATEGY", "best", "first-index"),
        ("UV_HTTP_TIMEOUT", "soon", "UV_HTTP_TIMEOUT"),
    ],
)
def test_a_setting_that_uv_cannot_use_is_no_index_that_does_not_answer(
    variable: str, value: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bad.txt").write_text("tor ch===\n")
    monkeypatch.setenv(variable, value.format(tmp=tmp_path))
    with index(tmp_path, app_1_0=[]) as (_, settings), pytest.raises(UsageError) as caught:
        resolve(["app"], TARGET, settings)
    assert caught.value.code == "bad-setting"
    assert shown in (caught.value.why or "")


@pytest.mark.integration
def test_a_cache_without_space_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from provisioner import process
    from provisioner.locking import resolution

    said = "error: Failed to write to the client cache\n  Caused by: No space left on device (os error 28)"
    monkeypatch.setattr(resolution, "run_uv", lambda *words, **more: process.Result(("uv",), 2, "", said, 0.1))
    with pytest.raises(NoRoute) as caught:
        resolve(["app"], TARGET, IndexSettings("pip", "http://127.0.0.1:9/simple"))
    assert (caught.value.exit_code, caught.value.code) == (3, "disk-or-tmp-full")
    assert "cannot be installed together" not in caught.value.what
