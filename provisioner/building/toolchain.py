"""The CUDA compiler: one on the machine, conda's, or one put together from the package index's CUDA 13 wheels.

`from_wheels` makes a root that looks like an installed toolkit; `check` says before the first unit what would go wrong.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner import download, paths, process, progress
from provisioner.building.archs import capability_of
from provisioner.building.releases import Release
from provisioner.building.target import Target
from provisioner.errors import BuildFailed, SourceUnreachable
from provisioner.exclusive import exclusive
from provisioner.indexes import IndexSettings
from provisioner.uv import run_uv, says_unreachable

WHEEL_PARTS = ("nvidia-cuda-nvcc", "nvidia-nvvm", "nvidia-cuda-crt", "nvidia-cuda-cccl", "nvidia-cuda-runtime")
"""The wheels that make a compiler. All must be of one minor: an nvvm of 13.5 beside a ptxas of 13.0 fails with "Unsupported
.version 9.5" (tried 2026-11-24). CUDA 12's wheels hold no nvcc."""

GCC_MAX = (((13, 4), 16), ((13, 0), 15), ((12, 8), 14), ((12, 4), 13), ((12, 0), 12), ((11, 7), 11))
"""From this CUDA version on, the newest gcc that nvcc takes (crt/host_config.h of each toolkit, read 2026-11-24)."""

CXX20_TORCH = (2, 14)
"""From this torch on its headers refuse anything below C++20 (tried with 2.13.0 and 2.14.1, 2026-11-24)."""


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A CUDA toolkit and the host compiler that goes with it. ``version`` is nvcc's, such as ``13.0.88``."""

    root: Path
    version: str
    cxx: Path
    cxx_version: str

    @property
    def nvcc(self) -> Path:
        """The compiler driver."""
        return self.root / "bin" / "nvcc"

    @property
    def cuda(self) -> tuple[int, int]:
        """Major and minor version of the toolkit."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


def requirements(cuda: str) -> tuple[str, ...]:
    """Return the PyPI requirements of a compiler for CUDA ``"13.0"``, all pinned to that minor.

    Raise `BuildFailed` for CUDA 12 and older, whose wheels on the package index hold no compiler.
    """
    major, minor = cuda.split(".")[:2]
    if int(major) < 13:
        raise BuildFailed(
            f"the package index has no CUDA {cuda} compiler",
            why="wheels with nvcc exist from CUDA 13.0 on",
            hints=[
                f"conda install -c conda-forge cuda-nvcc={cuda}",
                f"install the CUDA {cuda} toolkit",
                "choose a torch with CUDA 13",
            ],
            code="no-compiler",
        )
    return tuple(f"{name}=={major}.{minor}.*" for name in WHEEL_PARTS)


def install_wheels(cuda: str, settings: IndexSettings) -> Path:
    """Install the CUDA compiler for ``cuda`` (``"13.0"``) from the user's package index into the cache and return its root.

    Raise `SourceUnreachable` when the index does not answer, `BuildFailed` when it does not have it.
    """
    import sys

    wanted = requirements(cuda)
    folder = paths.cache_dir() / "toolkits" / f"cuda-{'.'.join(cuda.split('.')[:2])}"
    if (folder / "cuda-home" / "bin" / "nvcc").exists():
        return folder / "cuda-home"
    with exclusive(folder.with_suffix(".lock"), f"installing the CUDA {cuda} compiler"):
        if not (folder / "cuda-home" / "bin" / "nvcc").exists():
            partial = folder.with_name(folder.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            words: list[str | os.PathLike[str]] = [
                "pip",
                "install",
                "--quiet",
                "--python",
                sys.executable,
                "--no-deps",
                "--target",
                partial,
            ]
            result = run_uv([*words, *settings.options(), *wanted], settings=settings, timeout=1800)
            if not result.ok and (download.offline.get() or says_unreachable(result.err)):
                raise SourceUnreachable(
                    f"the CUDA {cuda} compiler cannot be fetched from the package index",
                    why=result.err.strip()[-300:] or None,
                    hints=[
                        "check the network and HTTPS_PROXY, or leave --offline out",
                        f"install a CUDA {cuda} toolkit and set CUDA_HOME",
                    ],
                    code="offline" if download.offline.get() else "index-unreachable",
                )
            if not result.ok:
                raise BuildFailed(
                    f"the CUDA {cuda} compiler cannot be installed from the package index: {result.err.strip()[-400:]}",
                    hints=[f"install a CUDA {cuda} toolkit and set CUDA_HOME"],
                    code="no-compiler",
                )
            from_wheels(partial)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
    return folder / "cuda-home"


def from_wheels(site_packages: Path) -> Path:
    """Return a toolkit root over the CUDA 13 wheels in ``site_packages``: relative links, made if they are not there.

    The wheels lack ``lib64`` and an unversioned ``libcudart.so``; the root has both. Raise `BuildFailed` when nvcc or cicc is missing.
    """
    found = sorted((site_packages / "nvidia").glob("cu[0-9]*/bin/nvcc"))
    if not found:
        raise BuildFailed(
            f"{site_packages} holds no CUDA compiler", hints=[f"install {' '.join(WHEEL_PARTS)}"], code="no-compiler"
        )
    wheels = found[-1].parents[1]
    if not (wheels / "nvvm" / "bin" / "cicc").exists():
        raise BuildFailed(f"{wheels} has nvcc but no cicc", hints=["install nvidia-nvvm of the same minor"], code="no-compiler")
    root = site_packages / "cuda-home"
    (root / "lib64").mkdir(parents=True, exist_ok=True)
    for name in ("bin", "include", "nvvm"):
        _link(root / name, Path("..", *wheels.relative_to(site_packages).parts, name))
    for library in sorted((wheels / "lib").iterdir()):
        _link(root / "lib64" / library.name, Path("..", "..", *library.relative_to(site_packages).parts))
        if match := re.fullmatch(r"(lib\w+\.so)\.\d+", library.name):
            _link(root / "lib64" / match[1], Path(library.name))
    _link(root / "lib", Path("lib64"))
    return root


def _link(link: Path, target: Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        paths.replace_symlink(link, target)


def find_toolchain(target: Target, *, cuda_root: Path | None = None, cxx: str | None = None) -> Toolchain:
    """Return the toolchain for ``target``: the named root, else the first fitting one of the places where toolkits lie.

    Raise `BuildFailed` that says what to install when there is no nvcc of torch's CUDA major, or no C++ compiler.
    """
    compiler = _find_cxx(target, cxx)
    wanted = target.torch.cuda or ""
    others: list[str] = []
    for root in [cuda_root] if cuda_root else _candidates(target):
        version = version_at(root)
        if version is None:
            continue
        if cuda_root or version.split(".")[0] == wanted.split(".")[0]:
            return Toolchain(root.resolve(), version, compiler[0], compiler[1])
        others.append(f"{root} has CUDA {version}")
    raise BuildFailed(
        f"no CUDA {wanted.split('.')[0] or '?'} compiler for torch {target.torch.version}",
        why="; ".join(others) or (f"{cuda_root} holds no bin/nvcc" if cuda_root else "nvcc was found nowhere"),
        hints=_compiler_hints(wanted),
        code="no-compiler",
    )


def _compiler_hints(cuda: str) -> list[str]:
    if not cuda:
        return ["install a torch that is built with CUDA: this one is a CPU build"]
    fetched = (
        ["provision build --fetch-compiler …  (from the package index, into the cache)"] if int(cuda.split(".")[0]) >= 13 else []
    )
    return [
        *fetched,
        f"conda install -c conda-forge cuda-nvcc={cuda} cuda-cudart-dev",
        f"install the CUDA {cuda} toolkit and set CUDA_HOME",
    ]


def _candidates(target: Target) -> list[Path]:
    """Return where a toolkit may lie, the user's own word first; a cached one from the package index last."""
    named = [Path(os.environ[name]) for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    beside = _root_of_path_nvcc()
    prefix = target.python.parent.parent  # conda's cuda-nvcc lies in the environment itself
    conda = [prefix, prefix / "targets" / "x86_64-linux"]
    cuda = ".".join((target.torch.cuda or "0.0").split(".")[:2])
    cached = paths.cache_dir() / "toolkits" / f"cuda-{cuda}" / "cuda-home"
    installed = sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    return [*named, *conda, *beside, Path("/usr/local/cuda"), *installed, Path("/opt/cuda"), cached]


def _root_of_path_nvcc() -> list[Path]:
    """Ask the ``nvcc`` on PATH where it lives: it may be a wrapper script or a link far from its toolkit (/usr/local/bin/nvcc)."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        return []
    said = process.run([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null", "-o", "/dev/null"], timeout=30)
    match = re.search(r"^#\$ TOP=(.+)$", said.err + said.out, re.MULTILINE)
    return [Path(match[1].strip()).resolve()] if match else []


def version_at(root: Path) -> str | None:
    """Return the version of the CUDA compiler in the toolkit ``root`` (``13.0.88``), None where there is none that works."""
    return _nvcc_version(root / "bin" / "nvcc") if _is_toolkit(root) else None


def _is_toolkit(root: Path) -> bool:
    """Say whether ``root`` holds a compiler with its headers; a lone nvcc is a wrapper or a broken install."""
    headers = any(
        path.is_file() for path in [root / "include" / "cuda_runtime.h", *root.glob("targets/*/include/cuda_runtime.h")]
    )
    return headers and (root / "bin" / "nvcc").is_file()


def _nvcc_version(nvcc: Path) -> str | None:
    match = re.search(r"\bV(\d+\.\d+\.\d+)", process.run([nvcc, "--version"], timeout=30).out)
    return match[1] if match else None


def _find_cxx(target: Target, named: str | None) -> tuple[Path, str]:
    beside = sorted(str(path) for path in target.python.parent.glob("*-conda-linux-gnu-c++"))  # conda's, named by its machine
    wished = os.environ.get("CXX")
    for name in (named, wished, *beside, "g++", "c++", "clang++"):
        path = shutil.which(name) if name else None
        if name and name == wished and not path:
            progress.note(f"CXX={name} is no program that is found here; looking for another compiler")
        if path:
            result = process.run([path, "-dumpfullversion", "-dumpversion"], timeout=30)
            if result.ok and (stated := result.out.split()):
                return Path(path), stated[0]
            if name == wished:
                progress.note(f"CXX={name} does not tell a compiler's version; looking for another one")
        if name and name == named:
            break
    raise BuildFailed(
        f"no C++ compiler{f' called {named}' if named else ''}",
        hints=["apt install g++", "dnf install gcc-c++", "conda install -c conda-forge gxx"],
        code="no-compiler",
    )


def check(toolchain: Toolchain, target: Target, release: Release | None, archs: Sequence[str]) -> None:
    """Raise `BuildFailed` when a build could not succeed: CUDA majors differ, gcc too new, no headers, an arch nvcc lacks."""
    _check_torch(toolchain, target)
    _check_host(toolchain, target)
    for arch in archs if release else ():
        assert release is not None
        _check_release(release, arch)
    known = process.run([toolchain.nvcc, "--list-gpu-code"], timeout=30).out.split()
    known += process.run([toolchain.nvcc, "--list-gpu-arch"], timeout=30).out.split()
    for arch in archs:
        if known and arch not in known and arch.rstrip("af") not in known:
            raise BuildFailed(
                f"CUDA {toolchain.version} does not compile for {arch}",
                why=f"it knows {' '.join(known)}",
                hints=["choose a toolkit that has it: sm_70 up to CUDA 12.9, sm_120 from 12.8 on"],
                code="unknown-arch",
            )


ADAPTERS = {
    75: ["provision build --adapter turing109  (flash-attn 2's functions over the sm_75 kernels of 1.0.9)"],
    70: ["provision build --adapter aten  (flash-attn 2's functions over PyTorch's kernels)"],
}
"""Ten times a compute capability that no 2.x release has kernels for → what to build instead."""


def _check_release(release: Release, arch: str) -> None:
    capability = capability_of(arch)
    number = capability.major * 10 + capability.minor
    if number < release.min_capability:
        raise BuildFailed(
            f"flash-attn {release.version} has no kernels for {arch}",
            why="it would compile, but every kernel would only print an error at run time",
            hints=ADAPTERS.get(number, []),
            code="no-kernel",
        )
    if release.max_capability and number > release.max_capability:
        raise BuildFailed(
            f"flash-attn {release.version} refuses to run on {arch}",
            why=f"its host code knows GPUs up to sm_{release.max_capability}",
            hints=["build a 2.x release for it"],
            code="no-kernel",
        )


def _check_torch(toolchain: Toolchain, target: Target) -> None:
    cuda = target.torch.cuda
    if cuda is None:
        raise BuildFailed(
            f"torch {target.torch.version} is a CPU build",
            hints=["install a torch that is built with CUDA"],
            code="cpu-torch",
        )
    if int(cuda.split(".")[0]) != toolchain.cuda[0]:
        raise BuildFailed(
            f"nvcc is CUDA {toolchain.version}, torch {target.torch.version} is CUDA {cuda}",
            why="the majors must agree",
            hints=_compiler_hints(cuda),
            code="cuda-mismatch",
        )


def _check_host(toolchain: Toolchain, target: Target) -> None:
    header = Path(target.interpreter.include) / "Python.h"
    if not header.is_file():
        raise BuildFailed(
            f"the headers of Python {target.interpreter.version} are missing ({header})",
            hints=["apt install python3-dev", "dnf install python3-devel", "use a Python that brings its headers (conda, uv)"],
            code="no-headers",
        )
    newest = next((limit for since, limit in GCC_MAX if toolchain.cuda >= since), 11)
    major = int(toolchain.cxx_version.split(".")[0])
    if "clang" not in toolchain.cxx.name and major > newest:
        raise BuildFailed(
            f"{toolchain.cxx} is gcc {toolchain.cxx_version}; CUDA {toolchain.version} takes gcc up to {newest}",
            hints=[f"apt install g++-{newest}, then set CXX=g++-{newest}", f"conda install -c conda-forge 'gxx<={newest}'"],
            code="host-compiler",
        )
    if target.torch.release >= CXX20_TORCH and major < 10 and "clang" not in toolchain.cxx.name:
        raise BuildFailed(
            f"torch {target.torch.version} needs C++20; gcc {toolchain.cxx_version} lacks it",
            hints=["install gcc 11 or newer and set CXX"],
            code="host-compiler",
        )
