from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.wheels.elf import Elf, mapped
from provisioner.wheels.fatbin import Image, Kind, content, images_of, read_images, unpack_lz4
from provisioner.wheels.malformed import MalformedBinary
from tests.wheels.conftest import ARCHS, container, entry


def archs(path: Path) -> Counter[str]:
    with mapped(path) as data:
        return Counter(image.arch for image in images_of(Elf(data, path.name)))


@pytest.mark.subprocess
def test_plain_arch_specific_and_family_specific_code_are_told_apart(extension: Path) -> None:
    assert set(archs(extension)) == set(ARCHS)


@pytest.mark.subprocess
@pytest.mark.parametrize(("mode", "compression"), [("speed", "lz4"), ("size", "zstd")])
def test_compressed_code_is_unpacked_to_what_the_compiler_wrote(
    build_cuda: Callable[..., Path], mode: str, compression: str
) -> None:
    path = build_cuda("80", "ptx80", options=(f"-Xfatbin=--compress-mode={mode}", "-Xfatbin=-compress-all"))
    with mapped(path) as data:
        images = {image.kind: image for image in images_of(Elf(data, path.name))}
        ptx, cubin = content(data, images[Kind.PTX]), content(data, images[Kind.CUBIN])
    assert images[Kind.PTX].compression == compression
    assert b".visible .entry scale(" in ptx
    assert b".target sm_80" in ptx
    assert Elf(cubin, "cubin").machine == "cuda"
    assert Elf(cubin, "cubin").section(".text.scale") is not None


@pytest.mark.subprocess
def test_relocatable_code_of_a_linked_library_does_not_count(build_cuda: Callable[..., Path]) -> None:
    """The driver loads what the device linker made; the PTX that only it reads is no promise for later GPUs."""
    path = build_cuda("80", "ptx90", options=("-rdc=true",))
    with mapped(path) as data:
        assert Elf(data, path.name).section("__nv_relfatbin") is not None
    assert set(archs(path)) == {"sm_80"}


@pytest.mark.subprocess
def test_a_library_without_device_code_has_none(build_cxx: Callable[..., Path]) -> None:
    assert not archs(build_cxx("int x;"))


OLD_CUBIN = b"\x7fELF\x02\x01\x01\x33\x07" + bytes(39) + struct.pack("<I", 0x5A0D5A) + bytes(12)
"""The head of a cubin as CUDA 12.2 made it for sm_90a: ELF ABI version 7, the flag in ``e_flags``."""


def test_padding_between_containers_is_skipped() -> None:
    data = container(entry(2, 80, 0x11, bytes(8))) + bytes(24) + container(entry(1, 90, 0x100011, bytes(8)))
    assert [image.arch for image in read_images(data, 0, len(data))] == ["sm_80", "compute_90a"]


def test_cubins_made_before_cuda_13_tell_in_their_own_flags() -> None:
    data = container(entry(2, 90, 0x11, OLD_CUBIN))
    assert [image.arch for image in read_images(data, 0, len(data))] == ["sm_90a"]


def test_other_data_and_cut_off_code_are_refused() -> None:
    whole = container(entry(2, 80, 0x11, bytes(64)))
    with pytest.raises(MalformedBinary, match="unknown device code"):
        read_images(b"x" * 64, 0, 64)
    with pytest.raises(MalformedBinary, match="cut off"):
        read_images(whole, 0, len(whole) - 32)
    assert [image.arch for image in read_images(whole, 0, len(whole) - 32, cut=True)] == ["sm_80"]


def test_a_bomb_is_not_unpacked() -> None:
    with pytest.raises(MalformedBinary, match="claims"):
        content(bytes(64), Image(Kind.PTX, "compute_80", 0, 64, "zstd", 2**40))


def test_lz4_copies_may_overlap() -> None:
    assert unpack_lz4(b"\x11a\x01\x00", 6) == b"aaaaaa"
    assert unpack_lz4(b"\xf0\x01" + b"0123456789abcdef", 16) == b"0123456789abcdef"
    with pytest.raises(MalformedBinary, match="before its start"):
        unpack_lz4(b"\x10a\x09\x00", 9)


@given(st.binary(max_size=200), st.integers(0, 5000))
def test_lz4_of_anything_is_that_length_or_our_error(stored: bytes, size: int) -> None:
    with suppress(MalformedBinary):
        assert len(unpack_lz4(stored, size)) == size


@given(st.lists(st.binary(max_size=120), max_size=4))
def test_device_code_of_anything_is_read_or_our_error(parts: list[bytes]) -> None:
    data = b"".join(container(part) + part for part in parts)
    with suppress(MalformedBinary):
        read_images(data, 0, len(data))
