"""The torch of an environment as wheels see it: version, CUDA, C++ ABI and GPU architectures, read from its files without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner.torch_version import parse_torch_version
from provisioner.wheels.elf import Elf, mapped
from provisioner.wheels.fatbin import images_of
from provisioner.wheels.inspection import sort_archs
from provisioner.wheels.installed import torch_lib_dir
from provisioner.wheels.linkage import Abi

_ERROR_OF = {
    Abi.CXX11: "_ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",
    Abi.PRE_CXX11: "_ZN3c105ErrorC2ENS_14SourceLocationESs",
}
"""The constructor of ``c10::Error`` in both ABIs; a torch exports exactly one (torch 2.1–2.14)."""


@dataclass(frozen=True, slots=True)
class TorchFacts:
    """An installed torch. ``version`` keeps its local label, ``cuda`` is None for a CPU build; ``lib_dir`` is what to link against."""

    lib_dir: Path
    version: str | None = None
    cuda: str | None = None
    abi: Abi | None = None


def read_torch(environment: Path) -> TorchFacts | None:
    """Return the torch of an environment (prefix, Python or package directory), None when it has none.

    Raise `UsageError` when it is no environment, `MalformedBinary` when its libraries are damaged.
    """
    directory = torch_lib_dir(environment)
    if directory is None:
        return None
    version_file = directory.parent / "version.py"
    text = version_file.read_text(errors="replace") if version_file.is_file() else ""
    stated = parse_torch_version(text)
    return TorchFacts(directory, stated.version, stated.cuda, read_abi(directory))


def read_abi(lib_dir: Path) -> Abi | None:
    """Return the C++ ABI that torch's libraries were built with, None where they do not show it."""
    core = lib_dir / "libc10.so"
    if not core.is_file():
        return None
    with mapped(core) as data:
        exports = Elf(data, core.name).exports
        return next((abi for abi, symbol in _ERROR_OF.items() if exports.provides(symbol)), None)


def read_torch_archs(lib_dir: Path) -> tuple[str, ...]:
    """Return the GPU architectures that torch itself has kernels for; empty for a CPU build."""
    library = lib_dir / "libtorch_cuda.so"
    if not library.is_file():
        return ()
    with mapped(library) as data:
        return sort_archs(image.arch for image in images_of(Elf(data, library.name)))
