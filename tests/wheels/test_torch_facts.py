from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.wheels.linkage import Abi
from provisioner.wheels.torch_facts import read_abi, read_torch, read_torch_archs
from tests.wheels.conftest import Environment, core_library

pytestmark = pytest.mark.subprocess


def test_version_cuda_and_abi_are_read_without_importing_torch(environment: Environment) -> None:
    torch = read_torch(environment.prefix)
    assert torch is not None
    assert (torch.version, torch.cuda, torch.abi) == ("2.9.1+cu128", "12.8", Abi.CXX11)
    assert torch.lib_dir == environment.lib_dir


def test_the_old_abi_is_told_by_the_library(build_cxx: Callable[..., Path]) -> None:
    assert read_abi(core_library(build_cxx, abi=0).parent) is Abi.PRE_CXX11


def test_a_cpu_build_has_no_cuda_and_no_architectures(tmp_path: Path) -> None:
    library = tmp_path / "torch" / "lib"
    library.mkdir(parents=True)
    (library.parent / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    torch = read_torch(tmp_path)
    assert torch is not None
    assert (torch.version, torch.cuda, torch.abi) == ("2.13.0+cpu", None, None)
    assert read_torch_archs(library) == ()


def test_torchs_own_architectures_are_read_from_its_library(extension: Path, tmp_path: Path) -> None:
    (tmp_path / "libtorch_cuda.so").write_bytes(extension.read_bytes())
    assert read_torch_archs(tmp_path)[:2] == ("sm_75", "sm_80")


def test_an_environment_without_torch_has_none(tmp_path: Path) -> None:
    (tmp_path / "lib" / "python3.12" / "site-packages").mkdir(parents=True)
    assert read_torch(tmp_path) is None
