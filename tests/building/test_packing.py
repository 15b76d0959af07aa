"""A wheel that installers take, with the same bytes every time."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

from packaging.version import Version

from provisioner.building import packing
from provisioner.building.releases import find_release

FILES = {
    "pkg/__init__.py": b"x = 1\n",
    "ext.so": b"\x7fELF",
    "pkg-1.0.dist-info/METADATA": b"Name: pkg\n",
    "pkg-1.0.dist-info/WHEEL": b"w\n",
}


def test_record_names_every_file_with_its_hash_and_size(tmp_path: Path) -> None:
    wheel = packing.write_wheel(tmp_path / "pkg-1.0-py3-none-any.whl", "pkg-1.0.dist-info", FILES)
    with zipfile.ZipFile(wheel) as bundle:
        rows = list(csv.reader(bundle.read("pkg-1.0.dist-info/RECORD").decode().splitlines()))
        assert {row[0] for row in rows} == set(bundle.namelist())
        for name, hashed, size in rows[:-1]:
            assert packing.record_hash(bundle.read(name)) == hashed
            assert len(bundle.read(name)) == int(size)
    assert rows[-1] == ["pkg-1.0.dist-info/RECORD", "", ""]


def test_the_same_files_in_another_order_give_the_same_bytes(tmp_path: Path) -> None:
    one = packing.write_wheel(tmp_path / "one.whl", "pkg-1.0.dist-info", FILES, executable=["ext.so"])
    backwards = dict(reversed(FILES.items()))
    other = packing.write_wheel(tmp_path / "other.whl", "pkg-1.0.dist-info", backwards, executable=["ext.so"])
    assert one.read_bytes() == other.read_bytes()


def test_the_extension_is_executable_and_metadata_comes_last(tmp_path: Path) -> None:
    wheel = packing.write_wheel(tmp_path / "one.whl", "pkg-1.0.dist-info", FILES, executable=["ext.so"])
    with zipfile.ZipFile(wheel) as bundle:
        assert bundle.getinfo("ext.so").external_attr >> 16 == 0o100755
        assert bundle.getinfo("pkg/__init__.py").external_attr >> 16 == 0o100644
        assert bundle.namelist()[-1] == "pkg-1.0.dist-info/RECORD"


def test_packages_are_found_as_setuptools_finds_them(tmp_path: Path) -> None:
    for name in (
        "flash_attn/__init__.py",
        "flash_attn/ops/__init__.py",
        "flash_attn/ops/x.py",
        "flash_attn/data/y.py",
        "tests/__init__.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "flash_attn" / "notes.md").write_text("")
    found = packing.python_files(tmp_path, find_release("2.8.3.post2"))
    assert set(found) == {"flash_attn/__init__.py", "flash_attn/ops/__init__.py", "flash_attn/ops/x.py"}


def test_metadata_is_the_sdists_own_with_our_version_and_upstreams_requirements(tmp_path: Path) -> None:
    (tmp_path / "PKG-INFO").write_text(
        "Metadata-Version: 2.1\nName: flash_attn\nVersion: 1.0.9\nLicense: UNKNOWN\nRequires-Python: >=3.7\n\n# Readme\n\nVersion: no\n"
    )
    text = packing.metadata(tmp_path, find_release("1.0.9"), "1.0.9+cu130torch2.13.kabc").decode()
    head, _, body = text.partition("\n\n")
    assert head.splitlines() == [
        "Metadata-Version: 2.1",
        "Name: flash_attn",
        "Version: 1.0.9+cu130torch2.13.kabc",
        "Requires-Python: >=3.7",
        "Requires-Dist: torch",
        "Requires-Dist: einops",
        "Requires-Dist: packaging",
        "Requires-Dist: ninja",
    ]
    assert body == "# Readme\n\nVersion: no\n"


def test_the_local_version_sorts_above_its_release_and_below_the_next() -> None:
    ours = Version("2.8.3.post2+cu130torch2.13.k0012abcd")
    assert Version("2.8.3.post2") < ours < Version("2.8.3.post3") < Version("2.8.4")
    assert str(ours) == "2.8.3.post2+cu130torch2.13.k0012abcd"
