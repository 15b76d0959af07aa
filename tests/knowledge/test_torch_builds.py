from __future__ import annotations

import pytest

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, packages, torch_builds

VOLTA, BLACKWELL, RTX50 = ComputeCapability(7, 0), ComputeCapability(10, 0), ComputeCapability(12, 0)


@pytest.mark.parametrize(
    ("torch", "cuda"),
    [
        ("2.4.1", "12.1"),
        ("2.5.1", "12.4"),
        ("2.6.0", "12.4"),
        ("2.7.1", "12.6"),
        ("2.8.0", "12.8"),
        ("2.10.0", "12.8"),
        ("2.11.0", "13.0"),
        ("2.14.1", "13.0"),
        ("2.15.0", "13.2"),
    ],
)
def test_the_package_index_serves_one_cuda_per_torch_release(torch: str, cuda: str) -> None:
    served = [build.cuda for build in torch_builds.find(torch) if build.index is None]
    assert served == [cuda]


@pytest.mark.parametrize(
    ("torch", "cuda", "runs"),
    [
        ("2.8.0", "12.8", True),
        ("2.10.0", "12.8", True),
        ("2.11.0", "12.8", False),
        ("2.14.1", "13.0", False),
        ("2.14.1", "12.6", True),
    ],
)
def test_volta_is_in_the_builds_that_still_hold_it(torch: str, cuda: str, runs: bool) -> None:
    (build,) = torch_builds.find(torch, cuda=cuda)
    assert build.runs_on(VOLTA) is runs


def test_blackwell_needs_torch_2_7_with_cuda_12_8_or_later() -> None:
    for build in torch_builds.builds():
        if build.cuda and (build.runs_on(BLACKWELL) or build.runs_on(RTX50)):
            assert tuple(map(int, build.minor.split("."))) >= (2, 7)
            assert tuple(map(int, build.cuda.split("."))) >= (12, 8)


def test_every_arch_of_a_build_can_be_compiled_by_its_cuda() -> None:
    for build in torch_builds.builds():
        for arch in build.archs:
            assert build.cuda is not None
            assert archs.compiles_for(build.cuda, ComputeCapability.parse(arch)), f"{build.torch} {build.cuda} {arch}"


@pytest.mark.parametrize(
    ("torch", "cuda", "abi"),
    [("2.5.1", "12.4", False), ("2.6.0", "12.4", False), ("2.6.0", "12.6", True), ("2.7.0", "12.6", True)],
)
def test_the_abi_changes_with_2_6_cu126(torch: str, cuda: str, abi: bool) -> None:
    (build,) = torch_builds.find(torch, cuda=cuda)
    assert build.cxx11_abi is abi


def test_torch_2_14_needs_cxx20() -> None:
    assert {build.cxx_standard for build in torch_builds.find("2.14")} == {20}
    assert {build.cxx_standard for build in torch_builds.find("2.13")} == {17}


def test_the_package_index_has_cuda_for_aarch64_from_2_11_on() -> None:
    assert not [build for build in torch_builds.find("2.10", machine="aarch64") if build.index is None]
    assert [build.cuda for build in torch_builds.find("2.11", machine="aarch64") if build.index is None] == ["13.0"]


def test_archs_that_were_not_read_are_not_made_up() -> None:
    assert {build.runs_on(VOLTA) for build in torch_builds.find("2.15")} == {None}


def test_each_torch_requires_a_triton_that_the_table_knows() -> None:
    for build in torch_builds.builds():
        if build.triton and build.machine == "x86_64":
            found = packages.triton_for(build.torch)
            assert found is not None
            assert found.triton == build.triton


@pytest.mark.parametrize(
    ("built_for", "loads_on", "works"),
    [("2.10", "2.12", True), ("2.10", "2.10", True), ("2.9", "2.10", False), ("2.12", "2.10", False)],
)
def test_a_wheel_loads_beside_other_torch_lines_only_where_somebody_measured_it(
    built_for: str, loads_on: str, works: bool
) -> None:
    assert torch_builds.wheel_loads_on(built_for, loads_on) is works
