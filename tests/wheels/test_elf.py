from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provisioner.wheels.elf import Elf, gnu_hash, mapped
from provisioner.wheels.malformed import MalformedBinary

SOURCE = """
#include <string>
#include <stdexcept>
extern "C" int planted_function(int);
extern "C" int offered(int x) { return planted_function(x) + 1; }
extern "C" __attribute__((weak)) void perhaps();
std::string text(int x) { if (perhaps) perhaps(); throw std::runtime_error("no"); }
"""


@pytest.fixture(scope="module")
def library(build_cxx: Callable[..., Path]) -> Path:
    return build_cxx(SOURCE, "-Wl,-rpath,$ORIGIN/../lib", "-lm", "-Wl,--no-as-needed", "-ldl")


def test_an_empty_or_foreign_file_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.so"
    empty.touch()
    with pytest.raises(MalformedBinary), mapped(empty):
        pass
    with pytest.raises(MalformedBinary, match="not an ELF file"):
        Elf(b"MZ" + bytes(100), "x.dll")
    with pytest.raises(MalformedBinary, match="64-bit little-endian"):
        Elf(b"\x7fELF\x01\x01" + bytes(100), "x.so")
    with pytest.raises(MalformedBinary, match="cut off"):
        Elf(b"\x7fELF\x02\x01" + bytes(10), "x.so")


def test_the_hash_is_that_of_the_loader() -> None:
    # values of the GNU hash documentation (flapenguin.me, "ELF: better symbol lookup via DT_GNU_HASH")
    assert [gnu_hash(name) for name in (b"", b"printf", b"exit", b"syscall")] == [0x1505, 0x156B2BB8, 0x7C967E3F, 0xBAC212A0]


@pytest.mark.subprocess
def test_needs_versions_and_search_path_are_read(library: Path) -> None:
    with mapped(library) as data:
        elf = Elf(data, library.name)
        assert elf.machine in ("x86_64", "aarch64")
        assert "libstdc++.so.6" in elf.needed
        assert elf.search_path == ("$ORIGIN/../lib",)
        undefined = {symbol.name: symbol for symbol in elf.undefined}
    assert undefined["planted_function"].version is None
    assert undefined["perhaps"].weak
    thrown = undefined["__cxa_throw"]
    assert (thrown.library, thrown.version) == ("libstdc++.so.6", "CXXABI_1.3")


@pytest.mark.subprocess
def test_exports_are_what_it_defines_and_nothing_else(library: Path) -> None:
    with mapped(library) as data:
        exports = Elf(data, library.name).exports
        assert exports.provides("offered")
        assert not exports.provides("planted_function")
        assert not exports.provides("offered_not")


@pytest.mark.subprocess
def test_a_library_with_only_the_old_hash_table_is_read_too(build_cxx: Callable[..., Path]) -> None:
    old = build_cxx(SOURCE, "-Wl,--hash-style=sysv")
    with mapped(old) as data:
        exports = Elf(data, old.name).exports
        assert exports.provides("offered")
        assert not exports.provides("planted_function")


@pytest.mark.subprocess
def test_pyelftools_reads_the_same(library: Path) -> None:
    from elftools.elf.elffile import ELFFile

    for path in (library, Path(sys.executable).resolve()):
        with path.open("rb") as file, mapped(path) as data:
            theirs, ours = ELFFile(file), Elf(data, path.name)
            dynamic: Any = theirs.get_section_by_name(".dynamic")
            table: Any = theirs.get_section_by_name(".dynsym")
            symbols = list(table.iter_symbols())
            assert [section.name for section in ours.sections] == [section.name for section in theirs.iter_sections()]
            assert list(ours.needed) == [tag.needed for tag in dynamic.iter_tags("DT_NEEDED")]
            absent = [one.name for one in symbols if one["st_shndx"] == "SHN_UNDEF" and one.name]
            defined = [one.name for one in symbols if one["st_shndx"] != "SHN_UNDEF" and one["st_info"]["bind"] == "STB_GLOBAL"]
            assert [symbol.name for symbol in ours.undefined] == absent
            assert all(ours.exports.provides(name) for name in defined)
            assert not any(ours.exports.provides(name) for name in set(absent) - set(defined))
