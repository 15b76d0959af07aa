from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.wheels.beginning import device_code, read_beginning
from provisioner.wheels.elf import Elf, mapped
from provisioner.wheels.fatbin import images_of
from provisioner.wheels.linkage import read_linkage
from provisioner.wheels.malformed import MalformedBinary


@pytest.mark.subprocess
def test_the_beginning_tells_the_same_as_the_whole_file(sound: Path, planted: Path, extension: Path) -> None:
    for path in (sound, planted, extension):
        with mapped(path) as data:
            elf = Elf(data, path.name)
            tables = elf.section(".gnu.version_r")
            assert tables is not None
            begin = read_beginning(data[: tables.offset + tables.size + 64], path.name)
            whole = read_linkage(elf)
            assert begin.linkage is not None
            assert (begin.linkage.abi, begin.linkage.glibc, begin.linkage.glibcxx) == (whole.abi, whole.glibc, whole.glibcxx)
            assert begin.linkage.cudart == whole.cudart
            assert set(begin.linkage.needed) >= set(whole.needed)
            assert begin.undefined == elf.undefined
            assert begin.images == ()


@pytest.mark.subprocess
@pytest.mark.parametrize("pad", [8, 116, 1000])
def test_a_padded_string_table_hides_no_versions(sound: Path, pad: int) -> None:
    """ld leaves room behind the names when it drops some; what follows moves on."""
    with mapped(sound) as data:
        elf = Elf(data, sound.name)
        strings, versions = elf.section(".dynstr"), elf.section(".gnu.version")
        needs = elf.section(".gnu.version_r")
        assert strings is not None
        assert versions is not None
        assert needs is not None
        end, start = strings.offset + strings.size, versions.offset
        tables = data[start : start + versions.size]
        begin = data[:end] + bytes(pad + (end + pad) % 2) + tables
        begin += bytes(-len(begin) % 8) + data[needs.offset : needs.offset + needs.size] + bytes(64)
        assert read_beginning(begin, sound.name).undefined == elf.undefined


@pytest.mark.subprocess
def test_device_code_is_found_without_a_section_table(extension: Path) -> None:
    with mapped(extension) as data:
        elf = Elf(data, extension.name)
        section = elf.section(".nv_fatbin")
        assert section is not None
        cut = data[: section.offset + section.size]
        assert device_code(cut) == images_of(elf)
        some = device_code(cut[: section.offset + section.size // 2])
        assert 0 < len(some) < len(images_of(elf))


def test_too_short_a_beginning_tells_nothing_and_no_elf_is_refused() -> None:
    header = b"\x7fELF\x02\x01" + bytes(200)
    assert read_beginning(header, "x.so").linkage is None
    with pytest.raises(MalformedBinary):
        read_beginning(b"!<arch>\n" + bytes(200), "x.so")
