"""What an environment holds, against its lock: by the records that pip and conda leave there."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.locking.check import against_prefix
from provisioner.locking.values import MAIN, SOURCE, Lock, LockedPackage


def locked(name: str, version: str, category: str = MAIN) -> Lock:
    url = f"https://index.example/{name}-{version.replace('+', '%2B')}-py3-none-any.whl"
    return Lock("linux-64", (LockedPackage(name, version, "pip", "linux-64", url, "a" * 64, category=category),))


def install(prefix: Path, name: str, version: str) -> None:
    folder = prefix / f"lib/python3.12/site-packages/{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version", "category", "found", "drifts"),
    [
        ("torch", "2.7.1+cu126", MAIN, "2.7.1+cu126", False),
        ("torch", "2.7.1+cu126", MAIN, "2.7.1+cpu", True),
        ("torch", "2.7.1+cu126", MAIN, "2.7.1", True),
        ("torch", "2.13.0", MAIN, "2.13.0+cpu", True),
        ("trl", "1.15.0", MAIN, "1.15.0+patched", False),
        ("flash-attn", "2.8.3+cu12torch2.7", MAIN, "2.8.3", False),
        ("flash-attn", "2.8.3", SOURCE, "2.8.3+cu130torch2.13", False),
        ("flash-attn", "2.8.3", SOURCE, "2.8.2+cu130torch2.13", True),
    ],
)
def test_another_build_of_torch_is_seen_and_what_was_compiled_here_may_be_labelled(
    tmp_path: Path, name: str, version: str, category: str, found: str, drifts: bool
) -> None:
    install(tmp_path, name, found)
    drift = next(against_prefix(locked(name, version, category), tmp_path), None)
    assert (drift is not None) == drifts
    assert drift is None or drift.evidence == f"{name} is {found}; locked is {version}"


def test_a_record_that_was_cut_off_counts_as_not_installed(tmp_path: Path) -> None:
    (tmp_path / "lib/python3.12/site-packages/torch-2.7.1.dist-info").mkdir(parents=True)
    (drift,) = against_prefix(locked("torch", "2.7.1"), tmp_path)
    assert drift.evidence == "torch 2.7.1 is locked and not installed"
