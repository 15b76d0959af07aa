from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from provisioner.environments.restore import delete_distribution, find_distribution, restored_on_failure
from tests.distributions import make_wheel


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def unpack(site: Path, version: str, files: dict[str, str | bytes]) -> None:
    with zipfile.ZipFile(make_wheel(site.parent / "wheels", "flash-attn", version, files=files)) as archive:
        archive.extractall(site)


OLD: dict[str, str | bytes] = {"flash_attn/__init__.py": "old = 1\n", "flash_attn/layers/a.py": "", "ext.so": b"\x7fELF old"}
NEW: dict[str, str | bytes] = {"flash_attn/__init__.py": "new = 1\n", "flash_attn/ops/b.py": "", "ext.so": b"\x7fELF new"}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "other.py").write_text("other\n")
    return site


def test_a_failed_change_is_undone_to_the_byte(site: Path) -> None:
    unpack(site, "2.7.4.post1", OLD)
    before = snapshot(site)

    def fail() -> None:
        with restored_on_failure(site, "flash-attn"):
            delete_distribution(site, "flash-attn")
            unpack(site, "2.8.3", NEW)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert snapshot(site) == before
    assert not (site / "flash_attn/ops").exists()


def test_where_there_was_none_there_is_none_again(site: Path) -> None:
    before = snapshot(site)

    def fail() -> None:
        with restored_on_failure(site, "flash_attn"):
            unpack(site, "2.8.3", NEW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert snapshot(site) == before


def test_a_change_that_works_stays(site: Path) -> None:
    unpack(site, "2.7.4.post1", OLD)
    with restored_on_failure(site, "flash-attn"):
        delete_distribution(site, "flash-attn")
        unpack(site, "2.8.3", NEW)
    info = find_distribution(site, "Flash.Attn")
    assert info is not None
    assert info.name == "flash_attn-2.8.3.dist-info"
    assert (site / "flash_attn/__init__.py").read_text() == "new = 1\n"
