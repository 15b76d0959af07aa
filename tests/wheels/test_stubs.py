from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.wheels.elf import Elf, mapped
from provisioner.wheels.fatbin import images_of
from provisioner.wheels.stubs import stub_archs
from tests.wheels.conftest import STUB_SOURCE

pytestmark = pytest.mark.subprocess


def stubs(path: Path) -> set[str]:
    with mapped(path) as data:
        return set(stub_archs(data, images_of(Elf(data, path.name))))


@pytest.mark.parametrize("options", [(), ("-Xfatbin=--compress-mode=speed", "-Xfatbin=-compress-all")])
def test_a_build_for_turing_is_a_stub_and_one_for_ampere_is_not(
    build_cuda: Callable[..., Path], options: tuple[str, ...]
) -> None:
    path = build_cuda("75", "ptx75", "80", source=STUB_SOURCE, options=options)
    assert stubs(path) == {"sm_75", "compute_75"}


def test_an_ordinary_kernel_for_turing_is_no_stub(extension: Path) -> None:
    assert stubs(extension) == set()
