"""CUDA toolkits with a compiler: where they really lie, and their versions."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from provisioner.machine.facts import CudaToolkit, Machine, Software
from provisioner.machine.interpreter import default_python, installed_version, site_directories
from provisioner.machine.system import System, which

_COMPONENT = re.compile(r'"cuda_nvcc"\s*:\s*\{[^}]*"version"\s*:\s*"(\d+\.\d+\.\d+)"')
_VERSION_TXT = re.compile(r"CUDA Version (\d+\.\d+(?:\.\d+)?)")
_CUDA_H = re.compile(r"^#define CUDA_VERSION (\d{4,6})", re.MULTILINE)
_IN_BINARY = rb"release \d+\.\d+, V(\d+\.\d+\.\d+)"
_WRAPPED = rb"\A#![^\x00]{0,4000}?(/[\w./+-]+/bin/nvcc)\b"
_CONDA_PACKAGE = re.compile(r"cuda-nvcc(?:-tools)?-(\d+\.\d+\.\d+)-")


def facts(system: System, known: Machine, python: str | None = None) -> Machine:
    """Return each toolkit once, by its real root, the one that a build would take first; ``software.nvcc`` is the first's."""
    found: dict[str, CudaToolkit] = {}
    for source, nvcc in _candidates(system, known, python):
        root = real_root(system, nvcc)
        if root not in found and (version := toolkit_version(system, root)):
            found[root] = CudaToolkit(root, version, source)
    toolkits = tuple(found.values())
    first = toolkits[0] if toolkits else None
    origins = {"software.nvcc": first.source} if first else {}
    return Machine(toolkits=toolkits, software=Software(nvcc=first.version if first else None), origins=origins)


def real_root(system: System, nvcc: str) -> str:
    """Return the root of the toolkit that ``nvcc`` starts: links are followed, and a wrapper script (Debian's) is looked into."""
    wrapped = system.search(nvcc, _WRAPPED)
    real = system.realpath(wrapped if wrapped is not None and system.exists(wrapped) else nvcc)
    return os.path.dirname(os.path.dirname(real))


def _candidates(system: System, known: Machine, python: str | None) -> Iterator[tuple[str, str]]:
    """Yield source and path of every nvcc, in the order of torch's extension builder: CUDA_HOME, PATH, /usr/local/cuda."""
    for source, root in _roots(system, known, python):
        nvcc = f"{root}/bin/nvcc"
        if system.exists(nvcc):
            yield source, nvcc
        if source == "CUDA_PATH" and (on_path := which(system, "nvcc")):
            yield "PATH", on_path


def _roots(system: System, known: Machine, python: str | None) -> Iterator[tuple[str, str]]:
    yield "CUDA_HOME", system.environ.get("CUDA_HOME", "")
    yield "CUDA_PATH", system.environ.get("CUDA_PATH", "")
    yield "/usr/local", "/usr/local/cuda"
    yield from (("/usr/local", root) for root in reversed(system.glob("/usr/local", "cuda-[0-9]*")))
    yield "/opt", "/opt/cuda"
    prefixes = (system.environ.get("CONDA_PREFIX"), *(prefix for tool in known.conda for prefix in (tool.root, *tool.envs)))
    yield from (("conda", prefix) for prefix in dict.fromkeys(prefixes) if prefix)
    chosen = python or default_python(system)
    for site in site_directories(system, chosen) if chosen else ():
        yield from (("site-packages", root) for root in reversed(system.glob(f"{site}/nvidia", "cu*")))


def toolkit_version(system: System, root: str) -> str | None:
    """Return the compiler's version, as exact as a file states it: ``12.8.93``, else ``12.8``; None when nothing does."""
    if match := _COMPONENT.search(system.read(f"{root}/version.json") or ""):
        return match[1]
    if match := _VERSION_TXT.search(system.read(f"{root}/version.txt") or ""):
        return match[1]
    for path in system.glob(f"{root}/conda-meta", "cuda-nvcc*-*.json"):
        if match := _CONDA_PACKAGE.match(os.path.basename(path)):
            return match[1]
    if "/site-packages/nvidia/" in f"{root}/":
        return installed_version(system, os.path.dirname(os.path.dirname(root)), "nvidia_cuda_nvcc")
    return _from_binaries(system, root)


def _from_binaries(system: System, root: str) -> str | None:
    for program in (
        f"{root}/bin/bin2c",
        f"{root}/bin/nvcc",
    ):  # all of a toolkit's programs carry the same line; bin2c has 90 kB, nvcc 30 MB
        if version := system.search(program, _IN_BINARY):
            return version
    if match := _CUDA_H.search(system.read(f"{root}/include/cuda.h") or ""):
        number = int(match[1])
        return f"{number // 1000}.{number % 1000 // 10}"
    return None
