from __future__ import annotations

import pytest

from provisioner.knowledge import wheel_names, wheel_rules

COMMUNITY = "mjun0812/flash-attention-prebuild-wheels"


def name(local: str, version: str = "2.8.3", platform: str = "linux_x86_64") -> wheel_names.WheelName:
    found = wheel_names.parse(f"flash_attn-{version}+{local}-cp312-cp312-{platform}.whl")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("version", "local", "source", "archs"),
    [
        ("2.8.3", "cu12torch2.8cxx11abiTRUE", wheel_rules.OFFICIAL, ("8.0", "9.0", "10.0", "12.0")),
        ("2.7.4.post1", "cu12torch2.6cxx11abiFALSE", wheel_rules.OFFICIAL, ("8.0", "9.0")),
        ("2.5.8", "cu118torch2.2cxx11abiFALSE", wheel_rules.OFFICIAL, ("8.0", "9.0")),
        ("2.3.0", "cu117torch2.0cxx11abiFALSE", wheel_rules.OFFICIAL, ("8.0",)),
        ("2.8.3", "cu126torch2.9", COMMUNITY, ("8.0", "9.0")),
        ("2.8.3", "cu128torch2.9", COMMUNITY, ("8.0", "9.0", "10.0", "12.0")),
        ("2.6.3", "cu128torch2.9", COMMUNITY, ("8.0", "9.0")),  # its setup.py knows no 100 and 120, whatever nvcc
        ("1.0.9", "cu118torch2.1", COMMUNITY, ("7.5", "8.0", "9.0")),
    ],
)
def test_the_archs_of_a_wheel_follow_from_its_setup_py_and_its_nvcc(
    version: str, local: str, source: str, archs: tuple[str, ...]
) -> None:
    assert wheel_rules.archs(name(local, version), source) == archs


@pytest.mark.parametrize(
    ("version", "local", "platform", "source", "floor"),
    [
        ("2.8.0.post2", "cu12torch2.6cxx11abiTRUE", "linux_x86_64", wheel_rules.OFFICIAL, "2.32"),
        ("2.7.4.post1", "cu12torch2.6cxx11abiTRUE", "linux_x86_64", wheel_rules.OFFICIAL, "2.31"),
        ("2.7.4", "cu128torch2.8", "linux_x86_64", COMMUNITY, "2.32"),
        ("2.8.3", "cu128torch2.8", "manylinux_2_24_x86_64.manylinux_2_28_x86_64", COMMUNITY, "2.24"),
        ("2.8.3", "cu128torch2.8", "linux_aarch64", COMMUNITY, "2.34"),
        ("2.8.3", "cu128torch2.8", "win_amd64", COMMUNITY, None),
    ],
)
def test_a_plain_linux_tag_does_not_hide_the_glibc_floor(
    version: str, local: str, platform: str, source: str, floor: str | None
) -> None:
    assert wheel_rules.glibc(name(local, version, platform), source) == floor


@pytest.mark.parametrize(
    ("version", "local", "source", "abi", "mislabelled"),
    [
        ("2.8.3", "cu12torch2.6cxx11abiFALSE", wheel_rules.OFFICIAL, True, True),  # #1783, #1717
        ("2.8.3", "cu12torch2.6cxx11abiTRUE", wheel_rules.OFFICIAL, True, False),
        ("2.7.4.post1", "cu12torch2.6cxx11abiFALSE", wheel_rules.OFFICIAL, False, False),
        ("2.8.3", "cu12torch2.5cxx11abiFALSE", wheel_rules.OFFICIAL, False, False),
        ("2.8.3", "cu12torch2.8cxx11abiFALSE", wheel_rules.OFFICIAL, True, True),
        ("2.8.3", "cu124torch2.6", COMMUNITY, False, False),
        ("2.8.3", "cu126torch2.6", COMMUNITY, True, False),
        ("2.8.3", "cu128torch2.7", COMMUNITY, True, False),
    ],
)
def test_a_false_label_is_believed_only_where_torch_had_the_old_abi(
    version: str, local: str, source: str, abi: bool, mislabelled: bool
) -> None:
    found = name(local, version)
    assert wheel_rules.real_abi(found, source) is abi
    assert (wheel_rules.ABI_MISLABELLED in wheel_rules.traps(found, source, f"v{version}")) is mislabelled


def test_a_file_named_as_another_version_than_its_release_is_marked() -> None:
    found = name("cu13torch2.9cxx11abiTRUE")
    assert wheel_rules.traps(found, wheel_rules.OFFICIAL, "v2.8.3.post1") == (wheel_rules.MISNAMED,)


@pytest.mark.parametrize(("version", "cuda"), [("2.8.1", "12.4"), ("2.8.0.post2", None), ("2.8.2", None), ("2.8.3", None)])
def test_kernels_of_281_alone_are_compressed_for_newer_drivers(version: str, cuda: str | None) -> None:
    assert wheel_rules.driver_cuda(name("cu12torch2.8cxx11abiTRUE", version)) == cuda
