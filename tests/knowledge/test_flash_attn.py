from __future__ import annotations

import pytest
from packaging.version import Version

from provisioner.knowledge import flash_attn


def test_each_release_has_the_full_hash_of_its_source() -> None:
    for release in flash_attn.releases():
        assert len(bytes.fromhex(release.sha256)) == 32
        assert release.sdist == f"flash_attn-{release.version}.tar.gz"


def test_the_newest_release_comes_first() -> None:
    versions = [Version(release.version) for release in flash_attn.releases()]
    assert versions == sorted(versions, reverse=True)
    assert str(versions[0]) == "2.8.3.post2"


def test_turing_is_in_the_1_x_line_alone() -> None:
    for release in flash_attn.releases():
        assert ("7.5" in release.archs) is (release.api == "1")
        assert "7.0" not in release.archs


def test_a_release_is_found_whatever_its_local_label() -> None:
    found = flash_attn.release("2.8.3+cu12torch2.8cxx11abiTRUE")
    assert found is not None
    assert found.version == "2.8.3"
    assert flash_attn.release("9.9") is None


def test_no_release_compiles_beside_torch_2_14_unpatched() -> None:
    assert {release.max_torch for release in flash_attn.releases() if release.api == "2"} == {"2.13"}


@pytest.mark.parametrize(("version", "units"), [("2.8.3.post2", 72), ("2.7.4.post1", 84), ("1.0.9", 8)])
def test_the_number_of_translation_units_is_that_of_its_setup_py(version: str, units: int) -> None:
    found = flash_attn.release(version)
    assert found is not None
    assert found.translation_units == units


def test_no_port_claims_what_was_not_seen() -> None:
    ports = {port.name: port for port in flash_attn.ports()}
    v100 = ports["ai-bond/flash-attention-v100"]
    assert (v100.archs, v100.cuda_min, v100.cuda_below) == (("7.0",), "12.9", "13.0")
    assert ports["ssiu/flash-attention-turing"].licence is None
