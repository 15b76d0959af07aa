from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import UsageError
from provisioner.wheels.filename import WheelName, label_cuda, label_torch
from provisioner.wheels.linkage import Abi


def test_an_official_flash_attn_name_states_torch_cuda_and_abi() -> None:
    name = WheelName.parse("flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl")
    assert (name.name, name.version) == ("flash-attn", "2.8.3+cu12torch2.9cxx11abitrue")
    assert (name.torch, name.cuda, name.abi) == ("2.9", "12", Abi.CXX11)
    assert name.tags == ("cp312-cp312-linux_x86_64",)


def test_the_old_abi_is_read_from_the_label() -> None:
    name = WheelName.parse("flash_attn-2.5.8+cu118torch2.2cxx11abiFALSE-cp310-cp310-linux_x86_64.whl")
    assert (name.torch, name.cuda, name.abi) == ("2.2", "11.8", Abi.PRE_CXX11)


def test_a_quoted_url_is_read_like_a_file_name() -> None:
    url = "https://releases.example/v2.8.3/flash_attn-2.8.3%2Bcu128torch2.10-cp312-cp312-linux_x86_64.whl?x=1"
    name = WheelName.parse(url)
    assert (name.torch, name.cuda, name.abi) == ("2.10", "12.8", None)


@pytest.mark.parametrize(
    ("label", "torch", "cuda"),
    [
        ("cu12torch2.10cxx11abiTRUE", "2.10", "12"),
        ("cu130torch2.9", "2.9", "13.0"),
        ("pt29cu128", "2.9", "12.8"),
        ("pt210cu126", "2.10", "12.6"),
        ("torch2.7.1.cu126", "2.7.1", "12.6"),
        ("sm90", None, None),
        ("", None, None),
    ],
)
def test_labels_of_several_makers(label: str, torch: str | None, cuda: str | None) -> None:
    assert (label_torch(label), label_cuda(label)) == (torch, cuda)


def test_a_wheel_for_everything_is_pure() -> None:
    assert WheelName.parse("flash_attn-2.8.3-py3-none-any.whl").pure
    assert not WheelName.parse("x-1-py3-none-manylinux_2_28_x86_64.whl").pure


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_our_error(text: str) -> None:
    with suppress(UsageError):
        assert WheelName.parse(text + ".whl").filename.endswith(".whl")
