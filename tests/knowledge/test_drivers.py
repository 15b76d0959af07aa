from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.knowledge import drivers

versions = st.builds(lambda a, b: f"{a}.{b:02d}", st.integers(380, 620), st.integers(0, 199))
cudas = st.sampled_from(sorted({row.cuda for row in drivers.bundled()}))


@pytest.mark.parametrize(
    ("driver", "cuda", "windows", "runs"),
    [
        ("525.60.13", "12.8", False, True),  # minor-version compatibility
        ("525.60.11", "12.0", False, False),
        ("528.33", "12.8", True, True),
        ("527.41", "12.8", True, False),
        ("470.82.01", "12.4", False, False),
        ("470.82.01", "11.8", False, True),
        ("450.80.02", "11.8", False, True),
        ("440.33.01", "11.1", False, False),
        ("575.57.08", "13.0", False, False),
        ("580.65.06", "13.2", False, True),
        ("581.15", "13.0", True, True),
        ("560.94", "13.0", True, False),
        ("440.33.01", "10.2", False, True),
        ("580.65.06", "99.0", False, False),
    ],
)
def test_a_driver_runs_a_cuda_by_its_own_column(driver: str, cuda: str, windows: bool, runs: bool) -> None:
    assert drivers.supports(driver, cuda, windows=windows) is runs


@pytest.mark.parametrize(
    ("driver", "windows", "cuda"),
    [
        ("535.104.05", False, "12.2"),
        ("550.54.15", False, "12.4"),
        ("470.256.02", False, "11.4"),
        ("580.95.05", False, "13.0"),
        ("565.57.01", False, "12.7"),
        ("540.4.0", False, "12.6"),  # Jetson, not a 535 that grew
        ("531.14", True, "12.1"),
        ("537.13", True, "12.2"),
        ("551.61", True, "12.4"),
        ("561.17", True, "12.6"),
        ("572.61", True, "12.8"),
        ("576.88", True, "12.9"),
        ("304.137", False, None),
    ],
)
def test_a_driver_offers_the_cuda_that_nvidia_smi_prints(driver: str, windows: bool, cuda: str | None) -> None:
    assert drivers.cuda_of(driver, windows=windows) == cuda


@pytest.mark.parametrize("row", [row for row in drivers.bundled() if row.linux], ids=lambda row: f"{row.cuda}u{row.update}")
def test_the_driver_that_a_toolkit_brings_offers_that_cuda_in_both_columns(row: drivers.BundledDriver) -> None:
    assert drivers.cuda_of(row.linux, windows=False) == row.cuda
    assert drivers.supports(row.linux, row.cuda, windows=False)
    if row.windows and row.cuda != "12.0" and not row.cuda.startswith(("8", "9", "10", "11")):
        assert drivers.cuda_of(row.windows, windows=True) == row.cuda


@given(versions, versions, cudas, st.booleans())
def test_a_newer_driver_never_runs_less(one: str, other: str, cuda: str, windows: bool) -> None:
    older, newer = sorted((one, other), key=drivers.parse)
    if drivers.supports(older, cuda, windows=windows):
        assert drivers.supports(newer, cuda, windows=windows)


@given(versions, cudas)
def test_ptx_needs_at_least_what_binaries_need(driver: str, cuda: str) -> None:
    offered = drivers.cuda_of(driver, windows=False)
    if drivers.compiles_ptx_of(driver, cuda, windows=False) and drivers.parse(cuda)[0] == drivers.parse(offered or "0")[0]:
        assert drivers.parse(driver)[0] >= drivers.parse(drivers.floor(cuda, windows=False))[0]


def test_ptx_of_a_newer_toolkit_is_not_compiled_by_an_older_driver_of_the_same_major() -> None:
    assert drivers.supports("535.104.05", "12.8", windows=False)
    assert not drivers.compiles_ptx_of("535.104.05", "12.8", windows=False)
    assert drivers.compiles_ptx_of("570.26", "12.8", windows=False)


def test_driver_470_runs_cuda_12_through_the_forward_compatibility_package() -> None:
    assert drivers.runs_forward_compatible("470.82.01", "12.4")
    assert drivers.runs_forward_compatible("535.161.08", "13.0")
    assert not drivers.runs_forward_compatible("470.82.01", "13.0")
    assert not drivers.runs_forward_compatible("450.80.02", "12.4")


def test_an_unknown_cuda_has_no_floor() -> None:
    with pytest.raises(KeyError):
        drivers.native_floor("12.7", windows=False)
