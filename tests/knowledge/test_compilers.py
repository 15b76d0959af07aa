from __future__ import annotations

import pytest

from provisioner.knowledge import compilers


@pytest.mark.parametrize(
    ("nvcc", "gcc"),
    [("11.8", 11), ("12.1", 12), ("12.4.131", 13), ("12.8.93", 14), ("13.0.88", 15), ("13.5", 16), ("9.1", None)],
)
def test_the_newest_gcc_is_the_one_that_both_nvcc_and_torch_accept(nvcc: str, gcc: int | None) -> None:
    assert compilers.gcc_max(nvcc) == gcc


def test_clang_has_a_limit_of_its_own() -> None:
    assert compilers.clang_max("12.8") == 19  # host_config.h refuses clang >= 20
    assert compilers.clang_max("1.0") is None
