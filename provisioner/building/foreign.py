"""A source tree that the user names, built by its own setup.py: we set architectures, jobs and compilers, and write down what was done.

Nothing is promised about such a tree; the inspection of the wheel shows what it holds.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioner import __version__, paths, process, progress
from provisioner.building import packing, sources
from provisioner.building.acceptance import accept_wheel
from provisioner.building.archs import capability_of, ordered
from provisioner.building.build import BuiltWheel
from provisioner.building.compile import without_stray
from provisioner.building.memory import read_capacity
from provisioner.building.sources import NamedTree
from provisioner.building.target import Target, read_target
from provisioner.building.toolchain import CXX20_TORCH, Toolchain, check, find_toolchain
from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.codec import digest, to_json
from provisioner.errors import BuildFailed

JOB_MIB = 6500
"""Memory for one unknown unit: flash-attn's largest measured one (backward, 2026-11-24)."""

TREE_SECONDS = 24 * 3600.0
DIST_INFO = ".dist-info"


@dataclass(frozen=True, slots=True)
class TreeOrder:
    """A named tree and what to build it for and with (fields as in `provisioner.building.build.BuildOrder`)."""

    source: NamedTree
    python: Path
    archs: tuple[str, ...]
    cuda_root: Path | None = None
    cxx: str | None = None
    jobs: int | None = None


def build_tree(order: TreeOrder, *, wheelhouse: Wheelhouse | None = None) -> BuiltWheel:
    """Return the wheel that the tree's own setup.py makes, with our provenance in it; from the wheelhouse when it is there.

    The target interpreter needs setuptools and what else the tree's setup.py imports. Raise `BuildFailed` with the last lines.
    """
    started = time.monotonic()
    store = wheelhouse or Wheelhouse()
    ordered(order.archs)
    target = read_target(order.python)
    toolchain = find_toolchain(target, cuda_root=order.cuda_root, cxx=order.cxx)
    check(toolchain, target, None, order.archs)
    with paths.scratch_dir("build") as scratch:
        tree, sha256 = sources.fetch_tree(order.source, scratch)
        made_of = {**_inputs(sha256, order, target, toolchain), "variables": steering(os.environ)}
        key = digest(made_of)

        def make() -> Entry:
            wheel = _run_setup(tree, scratch / "out", order, target, toolchain)
            provenance = to_json({"schema": 1, "builder": f"provision {__version__}", "key": key, "inputs": made_of})
            accept_wheel(add_provenance(wheel, provenance), target, order.archs)
            return store.store(key, wheel, provenance)

        entry, reused = store.obtain(key, make)
    version = entry.path.name.split("-")[1]
    seconds = round(time.monotonic() - started, 2)
    return BuiltWheel(entry.path, entry.sha256, key, version, order.archs, reused, seconds, units=0)


def _inputs(sha256: str, order: TreeOrder, target: Target, toolchain: Toolchain) -> dict[str, object]:
    return {
        "source_sha256": sha256,
        "archs": ordered(order.archs),
        "torch": target.torch.version,
        "torch_revision": target.torch.revision,
        "cuda": toolchain.version,
        "host_compiler": f"{toolchain.cxx.name} {toolchain.cxx_version}",
        "python_abi": target.interpreter.abi,
        "platform": target.interpreter.platform,
        "glibc": target.interpreter.glibc,
    }


_STEERING = re.compile(
    r"(?:FLASH|TORCH|XFORMERS|CUTLASS|USE|FORCE|SKIP|DISABLE|ENABLE|WITH|BUILD|CMAKE|PYTORCH|SETUPTOOLS)_\w+|\w*FLAGS|CC|AR|LDSHARED"
)
"""Names of variables by which setup.py files of CUDA extensions are told what to leave out or how to compile: flash-attn's
``FLASH_ATTENTION_DISABLE_…``, torch.utils.cpp_extension's and setuptools' own (read in 2.8.3.post2 and torch 2.14, 2026-11-27)."""


def steering(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the user's variables that may change what a setup.py builds; they belong to the wheel's key."""
    return {name: value for name, value in sorted(without_stray(environ).items()) if _STEERING.fullmatch(name)}


def setup_environment(order: TreeOrder, target: Target, toolchain: Toolchain) -> dict[str, str]:
    """Return the variables that steer a torch extension's setup.py: architectures, jobs, compilers, language standard.

    ``TORCH_CUDA_ARCH_LIST`` is torch's own; ``FLASH_ATTN_CUDA_ARCHS`` is read by flash-attn ≥ 2.7.4. nvcc takes the last ``-std``,
    so appended flags lift a pinned C++17 where torch needs C++20.
    """
    room = read_capacity()
    jobs = max(1, min(room.cpus, order.jobs or room.cpus, room.budget_mib // JOB_MIB))
    standard = {"NVCC_APPEND_FLAGS": "-std=c++20"} if target.torch.release >= CXX20_TORCH else {}
    return {
        "CUDA_HOME": str(toolchain.root),
        "CXX": str(toolchain.cxx),
        "TORCH_CUDA_ARCH_LIST": ";".join(_torch_arch(arch) for arch in order.archs),
        "FLASH_ATTN_CUDA_ARCHS": ";".join(arch.partition("_")[2] for arch in order.archs),
        "FLASH_ATTENTION_FORCE_BUILD": "TRUE",
        "MAX_JOBS": str(jobs),
        "NVCC_THREADS": "1",
        **standard,
    }


def _torch_arch(arch: str) -> str:
    """Return ``sm_90a`` as torch writes it, ``9.0a``; ``compute_75`` as ``7.5+PTX``."""
    suffix = arch[-1] if arch[-1] in "af" else ""
    return f"{capability_of(arch)}{suffix}" + ("+PTX" if arch.startswith("compute_") else "")


def _run_setup(tree: Path, out: Path, order: TreeOrder, target: Target, toolchain: Toolchain) -> Path:
    path = f"{target.python.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    env = {**without_stray(os.environ), **setup_environment(order, target, toolchain), "PATH": path}
    command = [
        sys.executable,
        "-m",
        "uv",
        "build",
        "--wheel",
        "--no-build-isolation",
        "--python",
        str(order.python),
        "-o",
        str(out),
    ]
    with progress.task(f"building {order.source.location}"):
        result = process.run([*command, str(tree)], timeout=TREE_SECONDS, cwd=tree, env=env)
    wheels = sorted(out.glob("*.whl"))
    if not result.ok or not wheels:
        lines = (result.err or result.out).strip().splitlines()
        tail = "\n    ".join(lines[-12:])
        named = [line.strip() for line in lines if re.match(r"\s*(?:\w*Error: |\S+: (?:fatal )?error: |nvcc fatal)", line)]
        raise BuildFailed(
            f"the tree's own build failed: {named[0] if named else ''}\n    {tail}",
            hints=[
                f"uv pip install --python {order.python} setuptools wheel packaging psutil ninja",
                "read the tree's own instructions",
            ],
        )
    return wheels[0]


def add_provenance(wheel: Path, provenance: str) -> Path:
    """Rewrite ``wheel`` in place with ``provenance.json`` in its dist-info and a RECORD that names it; return it."""
    with zipfile.ZipFile(wheel) as bundle:
        files = {info.filename: bundle.read(info) for info in bundle.infolist() if not info.is_dir()}
        programs = [info.filename for info in bundle.infolist() if (info.external_attr >> 16) & 0o100]
    dist_info = next(name.partition("/")[0] for name in files if name.partition("/")[0].endswith(DIST_INFO))
    files.pop(f"{dist_info}/RECORD", None)
    files[f"{dist_info}/provenance.json"] = provenance.encode()
    return packing.write_wheel(wheel, dist_info, files, executable=programs)
