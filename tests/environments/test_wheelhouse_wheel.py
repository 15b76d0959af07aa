"""A locked wheel of the own wheelhouse is used where it lies, and only while it is the one that was locked."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.environments.flash_attn import fetch_wheel
from provisioner.errors import IntegrityError, SourceUnreachable
from provisioner.locking.values import LockedPackage
from tests.planning.own_wheels import build_key, store


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, LockedPackage]:
    entry = store(tmp_path / "a house", build_key())
    package = LockedPackage(
        name="flash-attn", version="2.8.3.post2", manager="pip", platform="linux-64", url=entry.path.as_uri(), sha256=entry.sha256
    )
    return entry.path, package


def test_it_is_used_where_it_lies(stored: tuple[Path, LockedPackage]) -> None:
    path, package = stored
    assert fetch_wheel(package) == path
    assert package.filename == path.name


def test_another_content_is_refused(stored: tuple[Path, LockedPackage]) -> None:
    path, package = stored
    path.write_bytes(b"another wheel")
    with pytest.raises(IntegrityError, match="not the wheel that was locked"):
        fetch_wheel(package)


def test_a_wheel_that_is_gone_is_named(stored: tuple[Path, LockedPackage]) -> None:
    path, package = stored
    path.unlink()
    with pytest.raises(SourceUnreachable, match="no longer has"):
        fetch_wheel(package)
