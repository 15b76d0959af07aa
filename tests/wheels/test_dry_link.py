from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner.wheels.dry_link import demand_of, link, missing_symbols
from tests.wheels.conftest import EXTENSION_SOURCE, Environment, core_library

pytestmark = pytest.mark.subprocess

RENAMED = "_ZN3c107renamedEi"


def loader_says(extension: Path, lib_dir: Path) -> str:
    """Load the extension in a child process as Python's import would, and return the dynamic loader's complaint."""
    code = "import ctypes, os, sys\ntry: ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)\nexcept OSError as error: print(error)"
    environment = {"LD_LIBRARY_PATH": str(lib_dir)}
    done = subprocess.run(
        [sys.executable, "-c", code, extension], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return done.stdout


def test_the_planted_symbol_is_named_and_the_loader_agrees(planted: Path, environment: Environment) -> None:
    assert missing_symbols(planted, environment.lib_dir) == (RENAMED,)
    assert f"undefined symbol: {RENAMED}" in loader_says(planted, environment.lib_dir)


def test_a_sound_extension_raises_no_alarm_and_the_loader_agrees(sound: Path, environment: Environment) -> None:
    result = link(demand_of(sound), environment.lib_dir)
    assert (result.missing_symbols, result.missing_libraries, result.missing_versions) == ((), (), ())
    assert not loader_says(sound, environment.lib_dir)


def test_an_extension_of_the_other_abi_lacks_the_constructor_that_users_report(
    build_cxx: Callable[..., Path], environment: Environment, tmp_path: Path
) -> None:
    old_core = core_library(build_cxx, abi=0)
    old = build_cxx(EXTENSION_SOURCE, "-D_GLIBCXX_USE_CXX11_ABI=0", f"-L{old_core.parent}", "-lc10")
    assert missing_symbols(old, environment.lib_dir) == ("_ZN3c105ErrorC1ENS_14SourceLocationESs",)
    assert missing_symbols(old, old_core.parent) == ()


def test_a_needed_library_that_lies_nowhere_is_named(build_cxx: Callable[..., Path], environment: Environment) -> None:
    gone = build_cxx("int here() { return 1; }", "-Wl,-soname,libcudart.so.99", name="libcudart.so.99")
    user = build_cxx("int here(); int use() { return here(); }", f"-L{gone.parent}", "-l:libcudart.so.99")
    result = link(demand_of(user), environment.lib_dir)
    assert result.missing_libraries == ("libcudart.so.99",)
    assert "libcudart.so.99: cannot open shared object file" in loader_says(user, environment.lib_dir)
    assert link(demand_of(user, [gone.parent]), environment.lib_dir).missing_libraries == ()


def test_symbols_of_an_absent_library_are_not_counted_twice(
    build_cxx: Callable[..., Path], environment: Environment, tmp_path: Path
) -> None:
    versions = tmp_path / "map"
    versions.write_text('libgone.so.1 { global: extern "C++" { here*; }; local: *; };\n')
    gone = build_cxx(
        "int here() { return 1; }", f"-Wl,--version-script={versions}", "-Wl,-soname,libgone.so.1", name="libgone.so.1"
    )
    user = build_cxx("int here(); int use() { return here(); }", f"-L{gone.parent}", "-l:libgone.so.1")
    result = link(demand_of(user), environment.lib_dir)
    assert (result.missing_symbols, result.missing_libraries) == ((), ("libgone.so.1",))


def test_a_symbol_version_that_the_system_lacks_is_named(
    build_cxx: Callable[..., Path], environment: Environment, tmp_path: Path
) -> None:
    versions = tmp_path / "map"
    versions.write_text("GLIBCXX_3.4.99 { global: newer; };\n")
    newer = build_cxx(
        'extern "C" int newer() { return 1; }',
        f"-Wl,--version-script={versions}",
        "-Wl,-soname,libstdc++.so.6",
        name="libstdc++.so.6",
    )
    user = build_cxx('extern "C" int newer(); int use() { return newer(); }', "-nostdlib", str(newer))
    assert "GLIBCXX_3.4.99" in link(demand_of(_moved(user, tmp_path)), environment.lib_dir).missing_versions


def _moved(path: Path, folder: Path) -> Path:
    """Away from the library it was linked with, as a wheel from another machine is."""
    return path.rename(folder / path.name)
