"""ccache is used when it helps, and only then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from provisioner.building import ccache
from provisioner.building.toolchain import Toolchain


def make_program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def chain(tmp_path: Path) -> Toolchain:
    make_program(tmp_path / "toolkit" / "bin" / "nvcc", 'while [ $# -gt 1 ]; do [ "$1" = -o ] && touch "$2"; shift; done')
    return Toolchain(tmp_path / "toolkit", "13.0.88", Path("/usr/bin/g++"), "12.2.0")


@pytest.mark.subprocess
@pytest.mark.parametrize(("stats", "useful"), [("direct_cache_hit", True), ("unsupported_compiler_option", False)])
def test_a_ccache_that_does_not_cache_this_nvcc_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chain: Toolchain, stats: str, useful: bool
) -> None:
    program = make_program(
        tmp_path / "bin" / "ccache",
        f'[ "$1" = --version ] && echo "ccache 4" && exit\necho {stats} >> "$CCACHE_STATSLOG"\nexec "$@"',
    )
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    assert ccache.launcher(chain) == (str(program) if useful else "")
    program.write_text("#!/bin/sh\necho ccache 4\n")  # the verdict is kept: nothing is compiled again
    assert ccache.launcher(chain) == (str(program) if useful else "")


@pytest.mark.subprocess
@pytest.mark.skipif(shutil.which("ccache") is None, reason="needs ccache")
def test_a_cache_of_the_users_that_cannot_be_written_is_replaced_by_one_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """ccache takes it for an error of every compile; a home that compute nodes mount read-only is such a place."""
    monkeypatch.setenv("CCACHE_DIR", str(tmp_path / "mine"))
    assert ccache.environment()["CCACHE_DIR"] == str(tmp_path / "mine")
    monkeypatch.setenv("CCACHE_DIR", "/proc/nowhere")
    ours = ccache.environment()["CCACHE_DIR"]
    assert ours.startswith(os.environ["PROVISION_CACHE_DIR"])
    monkeypatch.delenv("CCACHE_DIR")
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert ccache.environment()["CCACHE_DIR"] == ours


def test_without_ccache_commands_stay_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chain: Toolchain) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ccache.launcher(chain) == ""


@pytest.mark.integration
@pytest.mark.skipif(not (shutil.which("ccache") and Path("/usr/local/cuda/bin/nvcc").exists()), reason="needs ccache and nvcc")
def test_the_installed_ccache_passes_its_self_test() -> None:
    assert ccache.launcher(Toolchain(Path("/usr/local/cuda"), "13.0.88", Path("/usr/bin/g++"), "12.2.0"))
