from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from provisioner.knowledge import wheel_lists
from provisioner.knowledge.wheel_lists import ReleaseFile, WheelLists

GITHUB = "https://github.example/{}/releases/download/{}/"

versions = st.sampled_from(["2.7.4.post1", "2.8.3", "1.0.9"])
locals_ = st.sampled_from(["cu12torch2.9cxx11abiTRUE", "cu128torch2.10", "d20260121.cu130torch2.10.0cxx11abiTRUE"])
tags = st.sampled_from(["cp312-cp312", "cp313-cp313t", "cp39-cp39", "cp37-cp37m", "cp39-abi3"])
platforms = st.sampled_from(["linux_x86_64", "manylinux_2_24_x86_64.manylinux_2_28_x86_64", "win_amd64"])
names = st.builds("flash_attn-{}+{}-{}-{}.whl".format, versions, locals_, tags, platforms)
heads = st.one_of(
    st.builds(GITHUB.format, st.sampled_from(["a/b", "c/d"]), st.sampled_from(["v2.8.3", "v0.9.1"])),
    st.just("https://files.example/owner/repo/resolve/main/"),
)


@st.composite
def files(draw: st.DrawFn) -> ReleaseFile:
    plus, suffix = draw(st.sampled_from(["+", "%2B"])), draw(st.sampled_from(["", "?download=true"]))
    url = draw(heads) + draw(names).replace("+", plus) + suffix
    sha256 = draw(st.one_of(st.none(), st.binary(min_size=32, max_size=32).map(bytes.hex)))
    size = draw(st.one_of(st.none(), st.integers(0, 2**31)))
    return ReleaseFile(url, draw(st.sampled_from(["a/b", "c/d"])), "community", "list", "2026-11-24", sha256, size)


@given(st.lists(files(), unique_by=lambda file: file.url))
def test_every_file_comes_back_exactly_from_the_folded_index(listed: list[ReleaseFile]) -> None:
    folded = wheel_lists.fold(listed, date="2026-11-24")
    again = msgspec.json.decode(msgspec.json.encode(folded), type=WheelLists)
    assert sorted(wheel_lists.unfold(again), key=repr) == sorted(listed, key=repr)


def test_files_that_are_no_flash_attn_wheels_are_left_out() -> None:
    url = GITHUB.format("a/b", "v1") + "dropout_layer_norm-0.1-cp312-cp312-linux_x86_64.whl"
    assert wheel_lists.fold([ReleaseFile(url, "a/b", "community", "list", "2026-11-24")], date="2026-11-24").shelves == []


def test_of_a_url_stated_twice_the_first_counts() -> None:
    url = GITHUB.format("a/b", "v1") + "flash_attn-2.8.3+cu128torch2.9-cp312-cp312-win_amd64.whl"
    first = ReleaseFile(url, "a/b", "official", "first list", "2026-11-24")
    second = ReleaseFile(url, "c/d", "community", "second list", "2026-11-24")
    assert list(wheel_lists.unfold(wheel_lists.fold([first, second], date="2026-11-24"))) == [first]
