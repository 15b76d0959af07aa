"""ccache in front of nvcc and the host compiler, when it is installed and really works with this nvcc.

torch's own spelling of dependency flags (``--generate-dependencies-with-compile``) makes ccache give up; the graph's commands
carry none, and relative paths only, so a unit compiled for one build is found by the next in another directory. ccache's
support for nvcc differs by version, hence a test with two compiles instead of a version check.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

from provisioner import paths, process
from provisioner.building.toolchain import Toolchain
from provisioner.codec import digest

SELF_TEST = "__global__ void kernel(int *out) { *out = 1; }\n"


def launcher(toolchain: Toolchain) -> str:
    """Return the word to put before compilers: ccache's path, or nothing where it is missing, switched off or of no use."""
    program = shutil.which("ccache")
    if program is None or os.environ.get("CCACHE_DISABLE"):
        return ""
    version = process.run([program, "--version"], timeout=10).out.partition("\n")[0]
    marker = paths.cache_dir() / "ccache" / digest([program, version, toolchain.version, str(toolchain.cxx)])[:16]
    if not marker.is_file():
        paths.write_atomic(marker, "works" if _self_test(program, toolchain) else "useless")
    return shlex.quote(program) if marker.read_text() == "works" else ""


def _self_test(program: str, toolchain: Toolchain) -> bool:
    """Compile one small unit twice in a cache of its own; True when the second time is a hit."""
    with paths.scratch_dir("ccache") as scratch:
        (scratch / "unit.cu").write_text(SELF_TEST)
        paths.replace_symlink(scratch / "cuda", toolchain.root)
        log = scratch / "stats"
        env = {**environment(), "CCACHE_DIR": str(scratch / "cache"), "CCACHE_STATSLOG": str(log)}
        command = [
            program,
            "cuda/bin/nvcc",
            "-ccbin",
            str(toolchain.cxx),
            "-O3",
            "-std=c++17",
            "-Xcompiler",
            "-fPIC",
            "--threads=1",
        ]
        for _ in range(2):
            if not process.run([*command, "-c", "unit.cu", "-o", "unit.o.part"], timeout=120, cwd=scratch, env=env).ok:
                return False
        return log.is_file() and "cache_hit" in log.read_text()


def environment() -> dict[str, str]:
    """Return the environment for compilers behind ccache: a compiler is known by its content, since each install has new times.

    Where the user's cache cannot be written, which ccache takes for an error of every compile, it is one among ours.
    """
    env = {"CCACHE_COMPILERCHECK": "content", **os.environ}
    program = shutil.which("ccache")
    if program is not None and not _is_writable(Path(process.run([program, "-k", "cache_dir"], timeout=10, env=env).last_line)):
        env["CCACHE_DIR"] = str(paths.cache_dir() / "ccache" / "kept")
    return env


def _is_writable(folder: Path) -> bool:
    """Say whether a file can be made in ``folder``, made itself where it is not there: a home may be read-only on compute nodes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
