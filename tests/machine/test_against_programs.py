"""What is read from files must be what the programs themselves say, for everything that this host has."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import pytest

from provisioner.machine.compilers import facts as compiler_facts
from provisioner.machine.facts import Machine
from provisioner.machine.probe import probe
from provisioner.machine.system import LiveSystem
from provisioner.process import run

pytestmark = pytest.mark.subprocess


@pytest.fixture(scope="module")
def machine() -> Machine:
    return probe()


def test_each_python_has_the_version_that_it_prints(machine: Machine) -> None:
    assert machine.pythons
    for python in machine.pythons:
        said = run([python.path, "-c", "import platform; print(platform.python_version())"], timeout=20).out.strip()
        assert said == python.version or said.startswith(f"{python.version}."), python


def test_headers_are_where_each_python_says_they_are(machine: Machine) -> None:
    for python in machine.pythons:
        said = run([python.path, "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"], timeout=20).out.strip()
        assert (Path(said) / "Python.h").is_file() == python.headers, python


def test_each_compiler_has_the_version_that_it_prints(machine: Machine) -> None:
    for compiler in machine.compilers:
        said = run([compiler.path, "--version"], timeout=20).out.splitlines()[0]
        assert compiler.version in said


def test_each_toolkit_has_the_version_that_its_nvcc_prints(machine: Machine) -> None:
    for toolkit in machine.toolkits:
        said = run([f"{toolkit.root}/bin/nvcc", "--version"], timeout=20).out
        match = re.search(r"V(\d+\.\d+\.\d+)", said)
        assert match is not None
        assert match[1].startswith(toolkit.version)


def test_the_system_is_what_the_standard_library_says(machine: Machine) -> None:
    assert machine.platform.machine == platform.machine()
    assert machine.platform.kernel == platform.release()
    if platform.libc_ver()[0] == "glibc":
        assert machine.platform.glibc == platform.libc_ver()[1]


def test_a_cache_in_front_of_a_compiler_is_passed_over_for_the_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, links = tmp_path / "toolset" / "bin", tmp_path / "ccache"
    for directory in (real, links, tmp_path / "toolset/lib/gcc/x86_64-linux-gnu/13.3.0"):
        directory.mkdir(parents=True)
    (real / "g++").touch()
    (tmp_path / "ccache" / "ccache").touch()
    (links / "g++").symlink_to(links / "ccache")
    monkeypatch.setenv("PATH", f"{links}{os.pathsep}{real}")
    found = compiler_facts(LiveSystem(), Machine()).compilers
    assert [(item.kind, item.path, item.version) for item in found if item.path.startswith(str(tmp_path))] == [
        ("gcc", str(real / "g++"), "13.3.0")
    ]
