from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from provisioner import paths
from provisioner.errors import IntegrityError
from provisioner.locking import snapshot


def test_the_shipped_snapshot_is_what_it_says_it_is() -> None:
    info = snapshot.about()
    found = [json.loads(snapshot.repodata(subdir).read_text())["packages.conda"] for subdir in snapshot.SUBDIRS]
    assert sum(map(len, found)) <= info.records
    assert "cuda-nvcc" in {row["name"] for rows in found for row in rows.values()}


def test_a_changed_snapshot_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "snapshot"
    shutil.copytree(snapshot.FOLDER, folder)
    evil = gzip.compress(gzip.decompress((folder / "noarch.json.gz").read_bytes()).replace(b"pip", b"pop", 1))
    (folder / "noarch.json.gz").write_bytes(evil)
    with pytest.raises(IntegrityError) as caught:
        snapshot.repodata("noarch", folder)
    assert caught.value.exit_code == 5
    assert not (paths.cache_dir() / "snapshot").exists()


def test_a_changed_copy_in_the_cache_is_replaced() -> None:
    copy = snapshot.repodata("noarch")
    good = copy.read_bytes()
    copy.write_bytes(good + b" ")
    assert snapshot.repodata("noarch").read_bytes() == good


def test_a_snapshot_reads_back_and_the_same_contents_give_the_same_bytes(tmp_path: Path) -> None:
    content = json.dumps({"packages": {}, "packages.conda": {"a-1-0.conda": {"name": "a"}}}).encode()
    first, second = (
        snapshot.write(tmp_path / name, "https://conda.example/forge", "2026-11-25", "a test", {"noarch": content})
        for name in "ab"
    )
    assert first == second == snapshot.about(tmp_path / "a")
    assert first.records == 1
    assert (tmp_path / "a/noarch.json.gz").read_bytes() == (tmp_path / "b/noarch.json.gz").read_bytes()
    assert snapshot.repodata("noarch", tmp_path / "a").read_bytes() == content
