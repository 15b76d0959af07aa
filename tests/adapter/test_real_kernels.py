"""The whole Turing wheel: all kernels of 1.0.9 for sm_75 compiled, linked, inspected and imported. About ten CPU-minutes.

``TEST_TORCH_PYTHON`` may name an interpreter that has torch with CUDA 13.0; otherwise one is made with uv.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.adapter.kernels import AdapterVersion
from provisioner.adapter.wheel import AdapterOrder, make_adapter
from provisioner.building.build import BuiltWheel
from provisioner.building.wheelhouse import Wheelhouse
from provisioner.wheels.inspect import inspect
from provisioner.wheels.torch_facts import read_torch
from provisioner.wheels.verdict import Target, reject_reasons
from tests.building import test_real_build

pytestmark = [pytest.mark.slow, pytest.mark.network]
python, toolkit = test_real_build.python, test_real_build.toolkit

USE = """
import torch, flash_attn
from flash_attn import _turing109
kernels = _turing109._kernels()
assert {"fwd", "bwd"} <= set(dir(kernels)), dir(kernels)
print(flash_attn.__build__, *_turing109.archs())
"""


@pytest.fixture(scope="module")
def built(python: Path, toolkit: Path, tmp_path_factory: pytest.TempPathFactory) -> BuiltWheel:
    store = Wheelhouse(tmp_path_factory.mktemp("wheelhouse"))
    order = AdapterOrder(AdapterVersion.parse("2.8.3+turing109"), python, cuda_root=toolkit)
    with pytest.MonkeyPatch.context() as patch:  # a module's fixture is made before a test's environment is cleaned
        patch.setenv("PROVISION_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        return make_adapter(order, wheelhouse=store)


def test_every_unit_is_compiled_and_none_is_empty(built: BuiltWheel) -> None:
    found = inspect(built.path)
    assert found.archs == ("sm_75",)
    assert found.stubs == ()
    assert len([name for name in built.compiled if name.startswith("fmha_")]) == 7


def test_it_links_against_its_torch_and_fits_a_t4(built: BuiltWheel, python: Path) -> None:
    torch = read_torch(python)
    assert torch is not None
    target = Target(gpus=("7.5",), torch=torch.version, torch_cuda=torch.cuda, abi=torch.abi)
    assert reject_reasons(inspect(built.path, against=torch.lib_dir), target) == ()


def test_it_does_not_claim_to_run_elsewhere(built: BuiltWheel) -> None:
    assert [reason.code for reason in reject_reasons(inspect(built.path), Target(gpus=("7.0",)))] == ["no-kernel-image"]


def test_the_compiled_module_loads_inside_the_package(built: BuiltWheel, python: Path, tmp_path: Path) -> None:
    assert test_real_build.run_beside(python, built.path, tmp_path, USE) == "2.8.3+turing109 sm_75"
