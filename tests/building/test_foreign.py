"""A tree that the user names is steered by variables, and its wheel says how it was made."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import pytest

from provisioner.building import packing
from provisioner.building.compile import without_stray
from provisioner.building.foreign import TreeOrder, add_provenance, setup_environment, steering
from provisioner.building.sources import NamedTree
from provisioner.building.target import Interpreter, Target, Torch
from provisioner.building.toolchain import Toolchain

CHAIN = Toolchain(Path("/cuda"), "12.9.86", Path("/usr/bin/g++"), "12.2.0")
INTERPRETER = Interpreter("3.11.7", "cp311", "cp311", ".so", "/inc", "linux_x86_64", (), "2.36")


def steer(archs: tuple[str, ...], torch: str = "2.10.0+cu129", jobs: int | None = None) -> dict[str, str]:
    order = TreeOrder(NamedTree("/src"), Path("/env/bin/python"), archs, jobs=jobs)
    target = Target(order.python, INTERPRETER, Torch(Path("/env/torch"), torch, "12.9", "abc", True))
    return setup_environment(order, target, CHAIN)


@pytest.mark.parametrize(
    ("archs", "listed"), [(("sm_70",), "7.0"), (("sm_75", "compute_75"), "7.5;7.5+PTX"), (("sm_90a", "sm_120"), "9.0a;12.0")]
)
def test_only_the_archs_asked_for_are_named(archs: tuple[str, ...], listed: str) -> None:
    assert steer(archs)["TORCH_CUDA_ARCH_LIST"] == listed


def test_the_standard_is_raised_only_where_torch_needs_it() -> None:
    assert "NVCC_APPEND_FLAGS" not in steer(("sm_75",))
    assert steer(("sm_75",), "2.14.1+cu130")["NVCC_APPEND_FLAGS"] == "-std=c++20"


def test_the_users_jobs_are_an_upper_bound() -> None:
    assert steer(("sm_75",), jobs=1)["MAX_JOBS"] == "1"


def test_the_wheel_is_rewritten_with_provenance_and_a_right_record(tmp_path: Path) -> None:
    files = {"x.so": b"elf", "x-1.0.dist-info/METADATA": b"Name: x\n", "x-1.0.dist-info/WHEEL": b"w\n"}
    wheel = packing.write_wheel(tmp_path / "x-1.0-py3-none-any.whl", "x-1.0.dist-info", files, executable=["x.so"])
    add_provenance(wheel, '{"schema": 1}')
    with zipfile.ZipFile(wheel) as bundle:
        assert bundle.read("x-1.0.dist-info/provenance.json") == b'{"schema": 1}'
        assert bundle.getinfo("x.so").external_attr >> 16 == 0o100755
        rows = {row[0]: row[1] for row in csv.reader(bundle.read("x-1.0.dist-info/RECORD").decode().splitlines())}
        assert set(rows) == set(bundle.namelist())
        assert rows["x-1.0.dist-info/provenance.json"] == packing.record_hash(b'{"schema": 1}')


def test_the_variables_that_steer_a_setup_py_belong_to_the_key_and_stray_ones_reach_nothing() -> None:
    environ = {
        "FLASH_ATTENTION_DISABLE_BACKWARD": "TRUE",
        "CXXFLAGS": "-g",
        "CPATH": "/other/include",
        "NVCC_APPEND_FLAGS": "-G",
        "HOME": "/home/someone",
        "MAX_JOBS": "4",
    }
    assert steering(environ) == {"CXXFLAGS": "-g", "FLASH_ATTENTION_DISABLE_BACKWARD": "TRUE"}
    assert without_stray(environ).keys() == environ.keys() - {"CPATH", "NVCC_APPEND_FLAGS"}
