from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.wheels.installed import find_installed, site_packages
from tests.wheels.conftest import INTERFACE, Environment


@pytest.fixture
def bare(tmp_path: Path) -> Environment:
    site = tmp_path / "lib" / "python3.12" / "site-packages"
    site.mkdir(parents=True)
    return Environment(tmp_path, site)


def test_a_prefix_a_package_folder_and_a_venvs_python_all_name_the_environment(bare: Environment) -> None:
    python = bare.prefix / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    (bare.prefix / "pyvenv.cfg").touch()
    for given in (bare.prefix, bare.site, python):
        assert site_packages(given) == (bare.site,)


def test_a_folder_without_python_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        site_packages(tmp_path)
    assert caught.value.code == "no-such-environment"
    assert "bin/python" in caught.value.hints[0]


@pytest.mark.subprocess
def test_a_python_that_is_no_venv_is_asked(tmp_path: Path) -> None:
    link = tmp_path / "python3"
    link.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    link.chmod(0o755)
    assert Path(sysconfig.get_paths()["purelib"]).resolve() in site_packages(link)


def test_an_installed_distribution_is_found_with_its_files(bare: Environment) -> None:
    files: dict[str, bytes | str | Path] = {"flash_attn/flash_attn_interface.py": INTERFACE, "flash_attn_2_cuda.so": b"\x7fELF"}
    bare.install("flash-attn", "2.8.3+cu12torch2.9cxx11abiTRUE", files)
    found = find_installed(bare.prefix, "Flash_Attn")
    assert (found.distribution, found.version) == ("flash-attn", "2.8.3+cu12torch2.9cxx11abiTRUE")
    assert found.interfaces() == {"flash_attn/flash_attn_interface.py": INTERFACE}
    assert found.torch_lib_dir is None


def test_what_is_not_installed_is_said_so(bare: Environment) -> None:
    bare.install("flash-attn-extras", "1", {})
    with pytest.raises(UsageError, match="flash-attn is not installed") as caught:
        find_installed(bare.prefix, "flash-attn")
    assert caught.value.code == "not-installed"
