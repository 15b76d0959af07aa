"""No wheel is built twice, and none is handed out damaged."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from provisioner.building.wheelhouse import Wheelhouse

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

    def want(name: str) -> None:
        with store.building(KEY):
            if store.find(KEY) is None:
                time.sleep(0.2)
                store.store(KEY, wheel, "{}")
                built.append(name)

    threads = [threading.Thread(target=want, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
