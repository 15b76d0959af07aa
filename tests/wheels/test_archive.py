from __future__ import annotations

import io
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.wheels.archive import Archive, parse_metadata
from provisioner.wheels.malformed import MalformedBinary
from tests.wheels.conftest import make_wheel


def archive_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in members.items():
            made.writestr(name, data)
    return stream.getvalue()


def test_compiled_members_are_found_smallest_first(tmp_path: Path) -> None:
    path = make_wheel(
        tmp_path / "x-1-py3-none-any.whl",
        {
            "x/big.so": bytes(range(256)) * 9,
            "x/a.cpython-312-x86_64-linux-gnu.so": b"1",
            "x.libs/libz-1a.so.1.2": b"22",
            "x/so.py": "",
        },
    )
    with path.open("rb") as stream:
        names = [info.filename for info in Archive(stream, path.name).compiled()]
    assert names == ["x/a.cpython-312-x86_64-linux-gnu.so", "x.libs/libz-1a.so.1.2", "x/big.so"]


def test_metadata_is_read_by_header(tmp_path: Path) -> None:
    path = make_wheel(tmp_path / "x-1-py3-none-any.whl", {}, requires="Requires-Dist: torch==2.9.1\nRequires-Dist: einops")
    with path.open("rb") as stream:
        assert Archive(stream, path.name).metadata()["requires-dist"] == ["torch==2.9.1", "einops"]
    assert parse_metadata("Name: x\n\nbody: no") == {"name": ["x"]}


def test_a_member_cannot_be_written_outside_its_folder(tmp_path: Path) -> None:
    archive = Archive(io.BytesIO(archive_of({"../../evil.so": b"x"})), "evil.whl")
    with pytest.raises(MalformedBinary, match="outside"):
        archive.extract("../../evil.so", tmp_path / "in" / "here")
    assert not list(tmp_path.rglob("evil.so"))


def test_no_zip_at_all_is_refused() -> None:
    with pytest.raises(MalformedBinary, match="not a readable wheel"):
        Archive(io.BytesIO(b"<html>404</html>"), "x.whl")


WHOLE = archive_of({"x/a.so": bytes(range(256)) * 20, "x/b.py": b"import os\n" * 50, "x-1.dist-info/METADATA": b"Name: x\n"})


def read_all(data: bytes, folder: Path) -> None:
    archive = Archive(io.BytesIO(data), "x.whl")
    archive.metadata()
    for info in archive.compiled():
        archive.beginning(info.filename, 1000)
        archive.extract(info.filename, folder)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=12), st.integers(0, 60))
def test_a_damaged_wheel_is_read_or_refused_with_our_error(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    with tempfile.TemporaryDirectory() as folder, suppress(MalformedBinary):
        read_all(bytes(data[: len(data) - cut]), Path(folder))
