"""No damage to a file makes a reader raise anything but our own errors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from provisioner.wheels.beginning import read_beginning
from provisioner.wheels.elf import Elf
from provisioner.wheels.fatbin import content, images_of
from provisioner.wheels.linkage import read_linkage
from provisioner.wheels.malformed import MalformedBinary
from provisioner.wheels.stubs import stub_archs

RELAXED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
SMALL_EXTENSION = (
    'extern "C" int gone(int); namespace c10 { struct Error { Error(int); }; } int f() { c10::Error e(1); return gone(1); }'
)


@pytest.fixture(scope="module")
def victims(build_cuda: Callable[..., Path], build_cxx: Callable[..., Path]) -> list[bytes]:
    options = ("-Xfatbin=--compress-mode=size", "-Xfatbin=-compress-all")
    cuda = build_cuda("80", "ptx80", options=options)
    return [
        cuda.read_bytes(),
        build_cxx(SMALL_EXTENSION).read_bytes(),
        build_cxx(SMALL_EXTENSION, "-Wl,--hash-style=sysv").read_bytes(),
    ]


def read_everything(data: bytes) -> None:
    elf = Elf(data, "victim.so")
    read_linkage(elf)
    _ = elf.search_path, elf.version_definitions
    for name in ("gone", "_Z1fv", "launch", ""):
        elf.exports.provides(name)
    images = images_of(elf)
    stub_archs(data, images)
    for image in images[:4]:
        content(data, image)


def damaged(data: bytes, changes: list[tuple[float, int]], cut: float) -> bytes:
    """Return ``data`` with bytes changed, half of them within headers and tables, and its end cut off."""
    changed = bytearray(data)
    headers = max(64, len(data) - 64 * 48)
    for index, (place, value) in enumerate(changes):
        match index % 3:
            case 0:
                changed[int(place * 64)] = value
            case 1:
                changed[min(len(data) - 1, headers + int(place * (len(data) - headers)))] = value
            case _:
                changed[int(place * (len(data) - 1))] = value
    return bytes(changed[: len(changed) - int(cut * len(changed) * 0.2)])


CHANGES = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=24)


def check(data: bytes) -> None:
    for reader in (read_everything, lambda data: read_beginning(data, "victim.so")):
        with suppress(MalformedBinary):
            reader(data)


@pytest.mark.subprocess
@settings(max_examples=150, deadline=None, suppress_health_check=RELAXED)
@given(st.integers(0, 2), CHANGES, st.sampled_from([0.0, 0.0, 0.5, 1.0]))
def test_a_damaged_extension_is_read_or_refused(
    victims: list[bytes], which: int, changes: list[tuple[float, int]], cut: float
) -> None:
    check(damaged(victims[which], changes, cut))


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None, suppress_health_check=RELAXED)
@given(st.integers(0, 2), CHANGES, st.floats(0, 1))
def test_twenty_thousand_damaged_extensions_are_read_or_refused(
    victims: list[bytes], which: int, changes: list[tuple[float, int]], cut: float
) -> None:
    check(damaged(victims[which], changes, cut))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_anything_behind_an_elf_magic_is_read_or_refused(rest: bytes) -> None:
    check(b"\x7fELF\x02\x01" + rest)
