from __future__ import annotations

import pytest

from provisioner.knowledge import wheel_names
from provisioner.knowledge.wheel_names import WheelName


@pytest.mark.parametrize(
    ("filename", "parts"),
    [
        (
            "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
            WheelName("flash_attn", "2.8.3", "12", "2.9", True, "cp312", False, "linux_x86_64", None),
        ),
        (
            "flash_attn-2.0.6+cu116torch1.12cxx11abiFALSE-cp37-cp37m-linux_x86_64.whl",
            WheelName("flash_attn", "2.0.6", "11.6", "1.12", False, "cp37", False, "linux_x86_64", None),
        ),
        (
            "flash_attn-2.8.3+cu130torch2.10-cp313-cp313t-manylinux_2_34_aarch64.whl",
            WheelName("flash_attn", "2.8.3", "13.0", "2.10", None, "cp313t", False, "linux_aarch64", "2.34"),
        ),
        (
            "flash_attn-2.8.3+cu128torch2.8-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64.whl",
            WheelName("flash_attn", "2.8.3", "12.8", "2.8", None, "cp311", False, "linux_x86_64", "2.17"),
        ),
        (
            "flash_attn_3-3.0.0+cu130torch2.10gite2743ab-cp39-abi3-win_amd64.whl",
            WheelName("flash_attn_3", "3.0.0", "13.0", "2.10", None, "cp39", True, "win_amd64", None),
        ),
        (
            "flash_attn_3-3.0.0+20260318.cu128torch2100cxx11abitrue.8afc61-cp39-abi3-win_amd64.whl",
            WheelName("flash_attn_3", "3.0.0", "12.8", "2.10.0", True, "cp39", True, "win_amd64", None),
        ),
        (
            "flash_attn-2.8.4+d20260328cu130torch2.12.0cxx11abiTRUE-cp314-cp314-win_amd64.whl",
            WheelName("flash_attn", "2.8.4", "13.0", "2.12.0", True, "cp314", False, "win_amd64", None),
        ),
    ],
)
def test_every_publishers_spelling_is_read(filename: str, parts: WheelName) -> None:
    assert wheel_names.parse(filename) == parts


@pytest.mark.parametrize(
    "filename",
    [
        "flash_attn-2.8.3-py3-none-any.whl",
        "flash_attn-2.8.3.tar.gz",
        "xformers-0.0.35-py39-none-manylinux_2_28_x86_64.whl",
        "a.whl",
    ],
)
def test_other_files_are_not_taken_for_flash_attn_wheels(filename: str) -> None:
    assert wheel_names.parse(filename) is None
