"""No wheel is built twice, and none is handed out damaged."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest

from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.errors import UsageError

KEY = "ab" * 32


def make_wheel(folder: Path, content: bytes = b"wheel") -> Path:
    path = folder / "flash_attn-1.0-py3-none-any.whl"
    path.write_bytes(content)
    return path


def test_a_stored_wheel_is_found_by_its_key(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path / "house")
    assert store.find(KEY) is None
    stored = store.store(KEY, make_wheel(tmp_path), "{}")
    assert store.find(KEY) == stored
    assert stored.path.read_bytes() == b"wheel"
    assert (stored.path.parent / "provenance.json").read_text() == "{}"


def test_a_damaged_wheel_is_not_handed_out_and_is_replaced(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path / "house")
    stored = store.store(KEY, make_wheel(tmp_path), "{}")
    stored.path.write_bytes(b"wheex")
    assert store.find(KEY) is None
    store.store(KEY, make_wheel(tmp_path), "{}")
    assert store.find(KEY) is not None


def test_storing_leaves_no_partial_folder(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path / "house")
    store.store(KEY, make_wheel(tmp_path), "{}")
    assert [path.name for path in (tmp_path / "house" / "ab").iterdir()] == [KEY]


def test_of_two_that_want_the_same_wheel_one_waits_and_takes_it(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path / "house")
    wheel = make_wheel(tmp_path)
    built: list[str] = []
    taken: list[tuple[Entry, bool]] = []

    def want(name: str) -> None:
        def make() -> Entry:
            time.sleep(0.2)
            built.append(name)
            return store.store(KEY, wheel, "{}")

        taken.append(store.obtain(KEY, make))

    threads = [threading.Thread(target=want, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(reused for _, reused in taken) == [False, True, True]
    assert len({entry for entry, _ in taken}) == 1


def test_a_wheelhouse_that_cannot_be_written_gives_what_it_has_and_says_what_is_wrong(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path / "house")
    stored = store.store(KEY, make_wheel(tmp_path), "{}")
    locked = Wheelhouse(tmp_path / "house" / "ab" / KEY / "wheel.json")  # a file: root may write into any folder

    def never() -> NoReturn:
        raise AssertionError("nothing is built before it can be stored")

    assert store.obtain(KEY, never) == (stored, True)
    with pytest.raises(UsageError, match="cannot be written") as caught:
        locked.obtain("cd" * 32, never)
    assert "PROVISION_WHEELHOUSE" in caught.value.hints[0]
