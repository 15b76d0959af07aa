"""Where things lie: the XDG directories, moved by environment variables."""

from __future__ import annotations

import errno
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import platformdirs
import pytest

from provisioner import paths
from provisioner.errors import of_os_error


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs itself is asked")
@pytest.mark.parametrize("chosen", [None, "", "/srv/user"], ids=["unset", "empty", "chosen"])
def test_data_and_cache_lie_where_platformdirs_has_them(chosen: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PROVISION_DATA_DIR", "PROVISION_CACHE_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if chosen is not None and variable.startswith("XDG"):
            monkeypatch.setenv(variable, chosen)
    assert paths.data_dir() == Path(platformdirs.user_data_dir("provision", appauthor=False))
    assert paths.cache_dir() == Path(platformdirs.user_cache_dir("provision", appauthor=False))
    assert (paths.cache_dir().parent == Path("/srv/user")) == (chosen == "/srv/user")


def test_a_file_is_written_whole_or_not_at_all_and_a_link_keeps_leading_where_it_leads(tmp_path: Path) -> None:
    place, link = tmp_path / "there" / "lock.yml", tmp_path / "lock.yml"
    link.symlink_to(place)
    paths.write_atomic(link, "one")
    paths.write_atomic(link, "two")
    assert link.is_symlink()
    assert place.read_text() == "two"
    assert [path.name for path in place.parent.iterdir()] == ["lock.yml"]


def test_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as reader:
        content = reader.submit(pipe.read_text)
        paths.write_atomic(pipe, "a lock")
    assert content.result() == "a lock"
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file/lock.yml"):
        for check in (paths.check_writable, lambda path: paths.write_atomic(path, "x")):
            with pytest.raises(OSError) as caught:
                check(place)
            refused = of_os_error(caught.value)
            assert refused is not None
            assert str(place) in refused.what or str(place.parent) in refused.what
            assert (refused.exit_code, refused.code) == (2, "file-refused")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_said_to_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        paths.write_atomic(tmp_path / "lock.yml", "x")
    refused = of_os_error(caught.value)
    assert refused is not None
    assert (refused.exit_code, refused.code) == (3, "disk-or-tmp-full")
    assert str(tmp_path / "lock.yml") in refused.what
    assert list(tmp_path.iterdir()) == []
