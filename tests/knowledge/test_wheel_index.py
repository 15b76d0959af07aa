from __future__ import annotations

import time

import msgspec
import pytest

from provisioner.knowledge import wheel_index, wheel_lists
from provisioner.knowledge.wheel_index import WheelIndex


@pytest.fixture(scope="module")
def index() -> WheelIndex:
    return wheel_index.shipped()


def test_the_shipped_index_is_small_and_has_every_list(index: WheelIndex) -> None:
    assert wheel_index.SHIPPED.stat().st_size <= 600 * 1024
    sources: dict[str, int] = {}
    for wheel in index.every():
        sources[wheel.source] = sources.get(wheel.source, 0) + 1
    assert sources["Dao-AILab/flash-attention"] == 4292
    assert sources["mjun0812/flash-attention-prebuild-wheels"] >= 3567
    assert any(wheel.platform == "win_amd64" and wheel.source.startswith("Wildminder/") for wheel in index.every())


def test_it_opens_in_milliseconds() -> None:
    best = min(_opening_time() for _ in range(5))
    assert best <= 0.010


def _opening_time() -> float:
    start = time.perf_counter()
    wheel_index.shipped.__wrapped__()
    return time.perf_counter() - start


def test_the_wheels_for_one_torch_python_and_platform_are_found(index: WheelIndex) -> None:
    found = index.find("2.9", "cp312", "linux_x86_64")
    assert found == tuple(
        wheel for wheel in index.wheels if (wheel.torch, wheel.python, wheel.platform) == ("2.9", "cp312", "linux_x86_64")
    )
    official = {wheel.filename for wheel in found if wheel.trust == "official"}
    assert "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl" in official
    assert {wheel.trust for wheel in found} == {"official", "community"}


def test_a_patch_release_in_the_name_is_found_by_its_torch_line(index: WheelIndex) -> None:
    found = index.find("2.9", "cp313", "win_amd64")
    assert "2.9.1" in {wheel.torch_release for wheel in found}


def test_flashattention_3_is_kept_apart_and_serves_every_later_python(index: WheelIndex) -> None:
    assert all(wheel.distribution == "flash_attn" for wheel in index.wheels)
    later = index.find("2.9", "cp312", "linux_x86_64", distribution="flash_attn_3")
    assert later
    assert later == index.find("2.9", "cp310", "linux_x86_64", distribution="flash_attn_3")
    assert index.find("2.9", "cp313t", "linux_x86_64", distribution="flash_attn_3") == ()


def test_each_wheel_reads_back_from_its_own_name(index: WheelIndex) -> None:
    for wheel in index.every():
        assert wheel.python in wheel.filename
        assert wheel.filename.startswith(f"{wheel.distribution}-{wheel.version}+")
        assert wheel.torch_release.startswith(wheel.torch)
        assert wheel.sha256 is None or len(bytes.fromhex(wheel.sha256)) == 32


def test_no_official_wheel_is_for_windows(index: WheelIndex) -> None:
    assert not [wheel for wheel in index.wheels if wheel.trust == "official" and wheel.platform == "win_amd64"]


def test_no_wheel_of_an_old_nvcc_claims_blackwell(index: WheelIndex) -> None:
    for wheel in index.wheels:
        if "12.0" in wheel.archs:
            assert tuple(map(int, wheel.nvcc.split("."))) >= (12, 8)
            assert not wheel.version.startswith(("2.6", "2.5", "2.4"))


def test_the_users_index_serves_unless_it_is_older_or_broken(index: WheelIndex) -> None:
    target = wheel_index.updated_index_path()
    target.parent.mkdir(parents=True)
    try:
        wheel_index.load.cache_clear()
        assert wheel_index.load() is index
        for date in ("2099-01-01", index.date):
            target.write_bytes(msgspec.json.encode(wheel_lists.WheelLists(date, [])))
            wheel_index.load.cache_clear()
            assert wheel_index.load() is not index
            assert wheel_index.load().date == date
        target.write_bytes(msgspec.json.encode(wheel_lists.WheelLists("2020-01-01", [])))
        wheel_index.load.cache_clear()
        assert wheel_index.load() is index
        target.write_text('{"date": "2099-01-01", "shel')
        wheel_index.load.cache_clear()
        assert wheel_index.load() is index
    finally:
        wheel_index.load.cache_clear()


def test_conda_forges_builds_say_which_pytorch_they_are_for() -> None:
    builds = wheel_index.conda_builds()
    assert {"12.9", "13.0"} <= {build.cuda for build in builds}
    assert all(build.torch and build.archs for build in builds)
