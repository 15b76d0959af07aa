from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.wheels.elf import Elf, mapped
from provisioner.wheels.linkage import Abi, abi_class, is_torch_library, linkage_of, read_linkage

OLD_ERROR = "_ZN3c105ErrorC2ENS_14SourceLocationESs"
NEW_ERROR = "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"


@pytest.mark.parametrize(
    ("symbols", "abi"),
    [
        ([OLD_ERROR], Abi.PRE_CXX11),
        ([NEW_ERROR], Abi.CXX11),
        (["_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"], Abi.PRE_CXX11),
        (["_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"], Abi.CXX11),
        (["_ZNK5torch8autograd4Node4nameEv", OLD_ERROR, "memcpy"], Abi.PRE_CXX11),
        (["aoti_torch_get_dim", "torch_list_push_back", "_ZNSsC1EPKc"], Abi.STABLE),
        (["_ZN2at4_ops5empty4callEv"], None),
        (["_ZNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEixEm", "cudaMalloc"], None),
        ([], None),
    ],
)
def test_the_abi_is_told_by_the_strings_that_torch_is_given(symbols: list[str], abi: Abi | None) -> None:
    assert abi_class(symbols) is abi


@pytest.mark.subprocess
@pytest.mark.parametrize(("flag", "abi"), [(0, Abi.PRE_CXX11), (1, Abi.CXX11)])
def test_a_compiled_extension_shows_the_abi_it_was_compiled_with(build_cxx: Callable[..., Path], flag: int, abi: Abi) -> None:
    source = """
    #include <string>
    namespace c10 { struct SourceLocation { const char *a, *b; int l; };
                    struct Error { Error(SourceLocation, std::string); }; }
    void fail() { c10::Error({"f", "g", 1}, "message"); }
    """
    path = build_cxx(source, f"-D_GLIBCXX_USE_CXX11_ABI={flag}")
    with mapped(path) as data:
        assert read_linkage(Elf(data, path.name)).abi is abi


def test_floors_are_the_highest_versions_asked_for() -> None:
    versions = ["GLIBC_2.2.5", "GLIBC_2.32", "GLIBC_2.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.29", "CXXABI_1.3.8"]
    found = linkage_of([], versions, [])
    assert (found.glibc, found.glibcxx) == ("2.32", "3.4.29")
    assert linkage_of([], ["GLIBC_2.17", "GLIBC_ABI_DT_RELR"], []).glibc == "2.36"


@pytest.mark.parametrize(
    ("library", "major"), [("libcudart.so.12", "12"), ("libcudart.so.11.0", "11"), ("libcublas.so.13", None)]
)
def test_the_cuda_runtime_is_told_by_the_library_needed(library: str, major: str | None) -> None:
    assert linkage_of([library, "libc.so.6"], [], []).cudart == major


def test_cuda_13_libraries_that_count_differently_do_not_mislead() -> None:
    found = linkage_of(["libcusolver.so.12", "libcublas.so.13"], [], [])
    assert (found.cudart, found.cuda_major) == (None, "13")


def test_torch_libraries_are_known_by_name() -> None:
    assert [
        name
        for name in ("libtorch_cuda.so", "libc10.so", "libtorch.so", "libcudart.so.12", "libc.so.6")
        if is_torch_library(name)
    ] == [
        "libtorch_cuda.so",
        "libc10.so",
        "libtorch.so",
    ]
