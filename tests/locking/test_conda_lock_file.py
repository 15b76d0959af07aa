from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import UsageError
from provisioner.locking.conda_lock_file import read_lock, render, scalar, write_lock
from provisioner.locking.values import SOURCE, TOOLCHAIN, Lock, LockedPackage

LOCK = Lock(
    "linux-64",
    (
        LockedPackage(
            *("libzlib", "1.3.2", "conda", "linux-64"),
            url="https://conda.example/forge/linux-64/libzlib-1.3.2-h1_0.conda",
            sha256="a" * 64,
            md5="b" * 32,
            build="h1_0",
            dependencies={"libgcc": ">=14"},
        ),
        LockedPackage("einops", "0.8.2", "pip", "linux-64", "https://index.example/einops-0.8.2-py3-none-any.whl", "c" * 64),
        LockedPackage(
            *("flash-attn", "2.8.3.post2", "pip", "linux-64", "https://index.example/flash_attn-2.8.3.post2.tar.gz", "d" * 64),
            category=SOURCE,
        ),
        LockedPackage(
            *(
                "nvidia-nvvm",
                "13.0.88",
                "pip",
                "linux-64",
                "https://index.example/nvidia_nvvm-13.0.88-py3-none-any.whl",
                "e" * 64,
            ),
            category=TOOLCHAIN,
        ),
    ),
    ("https://conda.example/forge",),
    {"provision-recipe": "ampere", "provision-plan-digest": "f" * 64},
)


def test_a_lock_reads_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    write_lock(LOCK, path)
    assert read_lock(path) == LOCK


def test_the_same_lock_gives_the_same_bytes_whatever_the_order_of_its_metadata() -> None:
    other = dataclasses.replace(LOCK, metadata=dict(reversed(LOCK.metadata.items())), packages=LOCK.packages[::-1])
    assert render(other) == render(LOCK)
    assert "2026" not in render(LOCK)


def test_only_what_the_environment_holds_is_installed_by_conda_lock_without_asking() -> None:
    text = render(LOCK)
    assert text.count("category: main") == 2
    assert "category: source" in text
    assert "category: toolchain" in text


@pytest.mark.parametrize("text", ["", "not: a lock", "version: 1\npackage: 7\n", "\x00"])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"conda-lock\.yml"):
        read_lock(path)
    with pytest.raises(UsageError, match="there is no lock"):
        read_lock(tmp_path / "absent.yml")


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
def test_any_text_reads_back_from_a_lock_as_itself(text: str) -> None:
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(f"a: {scalar(text)}\n", Loader=loader) == {"a": text}


@pytest.mark.parametrize(
    "text", ["1.10", "2026-10-22", "yes", "No", "null", "~", "1e5", "0x1f", "*", ">=2,<3", "- a", "a: b", "", "12:30", "=", "<<"]
)
def test_what_yaml_takes_for_something_else_is_quoted(text: str) -> None:
    assert yaml.safe_load(f"a: {scalar(text)}\n") == {"a": text}


def test_conda_locks_own_models_read_what_we_write(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    path = tmp_path / "conda-lock.yml"
    write_lock(LOCK, path)
    content = parse_conda_lock_file(path)
    assert {
        row.name: (row.version, row.url, row.hash.sha256, set(row.categories), row.dependencies) for row in content.package
    } == {each.name: (each.version, each.url, each.sha256, {each.category}, each.dependencies) for each in LOCK.packages}
    assert content.metadata.custom_metadata == LOCK.metadata
    assert [channel.url for channel in content.metadata.channels] == list(LOCK.channels)


def test_conda_locks_own_file_reads_back_here(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    ours, theirs = tmp_path / "conda-lock.yml", tmp_path / "theirs-lock.yml"
    write_lock(LOCK, ours)
    write_conda_lock_file(parse_conda_lock_file(ours), theirs, metadata_choices=None)
    assert read_lock(theirs) == LOCK
