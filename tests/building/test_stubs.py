"""A kernel that is not there raises, and says how to get it."""

from __future__ import annotations

import pytest

from provisioner.building.releases import RELEASES, Release, find_release
from provisioner.building.selection import Direction, Kernel, preset, select
from provisioner.building.stubs import rebuild_command, stub_source
from provisioner.planning.values import KernelSelection

ONE = KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen", "uneven"))


def text_of(version: str) -> str:
    release = find_release(version)
    return stub_source(release, select(release, ONE))


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.version)
def test_each_missing_kernel_gets_one_definition_that_raises(release: Release) -> None:
    chosen = select(release, ONE)
    text = stub_source(release, chosen)
    assert text.count("TORCH_CHECK(false,") == len(chosen.stubbed) > 0
    assert "splitkv_dispatch<" not in text  # answered by the host unit


def test_a_compiled_kernel_gets_no_stub() -> None:
    release = find_release("2.8.3.post2")
    text = stub_source(release, select(release, ONE))
    assert "run_mha_fwd_<cutlass::bfloat16_t, 128, true>" not in text
    assert "run_mha_fwd_<cutlass::half_t, 128, true>" in text


def test_the_namespace_is_the_one_of_the_release() -> None:
    assert "namespace flash {" in text_of("2.7.4.post1")
    assert "namespace flash" not in text_of("2.6.3")


def test_the_rebuild_command_keeps_what_is_there_and_adds_what_is_missing() -> None:
    release = find_release("2.8.3.post2")
    command = rebuild_command(Kernel(Direction.FORWARD, 64, "fp16", False), release, select(release, ONE))
    assert (
        command == "provision build --version 2.8.3.post2 --head-dims 64,128 --dtypes fp16,bf16 --features backward,uneven,varlen"
    )


def test_upstreams_full_set_needs_no_stub() -> None:
    release = find_release("1.0.9")
    assert select(release, preset("full", release)).stubbed == ()
