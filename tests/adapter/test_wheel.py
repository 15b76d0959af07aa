"""The adapter's wheel: the same bytes each time, honest about what it is, and the compiled kernels at their place."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from provisioner import download
from provisioner.adapter.kernels import AdapterVersion, Kernels, claims
from provisioner.adapter.sources import FOLDER
from provisioner.adapter.wheel import MODULE, AdapterOrder, build_order, make_adapter, provenance, write_adapter
from provisioner.building import packing
from provisioner.building.build import BuiltWheel
from provisioner.building.wheelhouse import Wheelhouse
from provisioner.errors import UsageError
from provisioner.wheels.inspect import inspect
from provisioner.wheels.verdict import Target, reject_reasons

ATEN = AdapterVersion.parse("2.8.3+aten")
TURING = AdapterVersion.parse("2.8.1+turing109")


@pytest.fixture
def compiled(tmp_path: Path) -> BuiltWheel:
    """A wheel of 1.0.9 as the engine leaves it, with a text for its module."""
    version = "1.0.9+cu130torch2.14.k01234567"
    info = f"flash_attn-{version}.dist-info"
    files = {
        "flash_attn_cuda.cpython-311-x86_64-linux-gnu.so": b"code",
        f"{info}/licenses/LICENSE": b"BSD",
        f"{info}/METADATA": b"",
    }
    name = f"flash_attn-{version}-cp311-cp311-linux_x86_64.whl"
    path = packing.write_wheel(tmp_path / name, info, files)
    return BuiltWheel(path, download.file_sha256(path), "a" * 64, version, ("sm_75",), False, 1.0, 9)


def read(wheel: Path, ending: str) -> str:
    with zipfile.ZipFile(wheel) as bundle:
        return bundle.read(next(name for name in bundle.namelist() if name.endswith(ending))).decode()


def test_the_same_order_gives_the_same_bytes(tmp_path: Path) -> None:
    wheels = [make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path / name)) for name in ("one", "two")]
    assert wheels[0].path.read_bytes() == wheels[1].path.read_bytes()
    assert wheels[0].path.name == "flash_attn-2.8.3+aten-py3-none-any.whl"


def test_the_second_time_it_is_in_the_wheelhouse(tmp_path: Path) -> None:
    store = Wheelhouse(tmp_path)
    assert [make_adapter(AdapterOrder(ATEN), wheelhouse=store).reused for _ in range(2)] == [False, True]


def test_the_record_names_every_file_with_its_hash(tmp_path: Path) -> None:
    wheel = make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path)).path
    rows = {name: (hashed, size) for name, hashed, size in csv.reader(io.StringIO(read(wheel, "RECORD")))}
    with zipfile.ZipFile(wheel) as bundle:
        assert set(rows) == set(bundle.namelist())
        for name in set(rows) - {next(name for name in rows if name.endswith("RECORD"))}:
            content = bundle.read(name)
            assert rows[name] == (packing.record_hash(content), str(len(content)))


def test_every_module_is_in_it_and_each_folder_is_a_package(tmp_path: Path) -> None:
    wheel = make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path)).path
    with zipfile.ZipFile(wheel) as bundle:
        names = {name for name in bundle.namelist() if name.endswith(".py")}
    assert names == {f"flash_attn/{path.relative_to(FOLDER).as_posix()}" for path in FOLDER.rglob("*.py")}
    assert {"flash_attn/layers/rotary.py", "flash_attn/ops/triton/rotary.py"} < names
    assert all(f"{name.rpartition('/')[0]}/__init__.py" in names for name in names)


def test_it_says_what_it_is(tmp_path: Path) -> None:
    wheel = make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path)).path
    metadata = read(wheel, "METADATA")
    assert "Name: flash-attn\nVersion: 2.8.3+aten\n" in metadata
    assert "not Dao-AILab's flash-attn" in metadata
    assert "\nRequires-Dist: torch>=2.6\n" in metadata
    assert '\n__build__ = "2.8.3+aten"\n' in read(wheel, "flash_attn/_about.py")
    assert read(wheel, "top_level.txt") == "flash_attn\n"
    assert "Root-Is-Purelib: true" in read(wheel, "WHEEL")


def test_xformers_reads_the_version_as_three_numbers(tmp_path: Path) -> None:
    order = AdapterOrder(AdapterVersion.parse("2.8.0+aten"))
    about = read(make_adapter(order, wheelhouse=Wheelhouse(tmp_path)).path, "flash_attn/_about.py")
    (version,) = re.findall(r'^__version__ = "(.*)"$', about, re.MULTILINE)
    assert tuple(int(part) for part in version.split(".")) == (2, 8, 0)


def test_its_record_claims_what_both_kernel_sets_compute(tmp_path: Path) -> None:
    wheel = make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path)).path
    record = json.loads(read(wheel, "provenance.json"))
    assert record["adapter"] == "aten"
    assert record["selection"]["head_dims"] == list(claims().head_dims)
    assert not {"softcap", "alibi"} & set(record["selection"]["features"])
    assert record["inputs"]["archs"] == []


def test_a_wheel_without_compiled_code_is_nothing_to_object_to(tmp_path: Path) -> None:
    wheel = make_adapter(AdapterOrder(ATEN), wheelhouse=Wheelhouse(tmp_path)).path
    target = Target(gpus=("7.0",), glibc="2.28", python="3.12", machine="x86_64", torch="2.8.0", torch_cuda="12.8")
    assert reject_reasons(inspect(wheel), target) == ()


def test_compiled_kernels_lie_in_the_package_with_their_licence(tmp_path: Path, compiled: BuiltWheel) -> None:
    wheel = write_adapter(tmp_path, TURING, provenance(TURING, compiled), compiled)
    assert wheel.name == "flash_attn-2.8.1+turing109-cp311-cp311-linux_x86_64.whl"
    with zipfile.ZipFile(wheel) as bundle:
        names = bundle.namelist()
    assert f"{MODULE}/flash_attn_cuda.cpython-311-x86_64-linux-gnu.so" in names
    assert any(name.endswith("licenses/flash-attn-1.0.9/LICENSE") for name in names)
    assert json.loads(read(wheel, f"{MODULE}/build.json"))["archs"] == ["sm_75"]
    assert "Root-Is-Purelib: false" in read(wheel, "WHEEL")


def test_compiled_kernels_tie_the_wheel_to_their_torch(tmp_path: Path, compiled: BuiltWheel) -> None:
    wheel = write_adapter(tmp_path, TURING, provenance(TURING, compiled), compiled)
    assert "\nRequires-Dist: torch==2.14.*\n" in read(wheel, "METADATA")
    assert json.loads(read(wheel, "provenance.json"))["inputs"]["kernels_key"] == compiled.key


def test_another_build_of_the_kernels_is_another_wheel(compiled: BuiltWheel) -> None:
    from dataclasses import replace

    keys = {provenance(TURING, one)["key"] for one in (compiled, replace(compiled, key="b" * 64))}
    assert len(keys) == 2


def test_the_kernels_are_compiled_for_turing_and_nothing_else() -> None:
    order = AdapterOrder(TURING, Path("python"), ("sm_80",))
    with pytest.raises(UsageError, match="sm_80"):
        build_order(order)
    assert build_order(AdapterOrder(TURING, Path("python"))).archs == ("sm_75",)


@pytest.mark.parametrize("text", ["2.8.3", "2.8.3+cu12", "1.0.9+aten", "aten", "2.8+aten"])
def test_what_is_no_version_of_the_adapter_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a version of the adapter"):
        AdapterVersion.parse(text)


@pytest.mark.parametrize("text", ["2.8.3+aten", "2.8.1+turing109", "2.7.4.post1+aten"])
def test_versions_round_trip(text: str) -> None:
    version = AdapterVersion.parse(text)
    assert str(version) == text
    assert version.kernels in list(Kernels)
