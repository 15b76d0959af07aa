"""What an extension asks of the system, of CUDA and of torch: library floors, CUDA runtime, C++ ABI."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from provisioner.compat import StrEnum
from provisioner.wheels.elf import Elf, Undefined


class Abi(StrEnum):
    """How an extension passes C++ strings to torch; a torch build understands one of the first two, and always the third."""

    CXX11 = "cxx11"
    PRE_CXX11 = "pre-cxx11"
    STABLE = "stable"


@dataclass(frozen=True, slots=True)
class Linkage:
    """The demands of one extension. Floors are versions as text; None means that it does not ask (or that it cannot be told)."""

    needed: tuple[str, ...] = ()
    glibc: str | None = None
    glibcxx: str | None = None
    cudart: str | None = None
    cuda_major: str | None = None
    abi: Abi | None = None

    @property
    def torch_libs(self) -> tuple[str, ...]:
        """The libraries of torch among ``needed``."""
        return tuple(name for name in self.needed if is_torch_library(name))


_TORCH_LIBRARY = re.compile(r"lib(?:torch|c10|caffe2|shm)[\w-]*\.so.*")
_GLIBC = re.compile(r"GLIBC_(\d+\.\d+(?:\.\d+)?)")
_GLIBCXX = re.compile(r"GLIBCXX_(\d+\.\d+(?:\.\d+)?)")
_CUDART = re.compile(r"libcudart\.so\.(\d+)")
_CUDA_BY_LIBRARY = re.compile(r"lib(?:cudart|cublas|cublasLt|nvrtc|nvJitLink)\.so\.(\d+)")
_TORCH_CXX = re.compile(r"_Z\w*?(?<!\d)(?:3c10|2at|5torch)(?=[\dEILST])")
_OLD_STRING = re.compile(r"(?:E|RK|R|_|PK?c|[ijlmbxy])Ss(?:$|[RSiNPEjlmb_K])")
_STABLE = re.compile(r"(?:aoti_torch_|torch_(?!python)\w+$)")
_RELR_FLOOR = "2.36"
"""``GLIBC_ABI_DT_RELR`` stands for packed relocations, which glibc 2.36 (2022-08) learned."""


def is_torch_library(name: str) -> bool:
    """Say whether a library name is one of torch's own (``libtorch_cuda.so``, ``libc10.so`` …)."""
    return _TORCH_LIBRARY.fullmatch(name) is not None


def read_linkage(elf: Elf) -> Linkage:
    """Return the demands of an extension that is here as a whole. Raise `MalformedBinary` when it is damaged."""
    versions = [version for _, version in elf.version_needs.values()]
    return linkage_of(elf.needed, versions, [symbol.name for symbol in elf.undefined])


def linkage_of(needed: Iterable[str], versions: Iterable[str], symbols: Iterable[str]) -> Linkage:
    """Return the demands that follow from needed libraries, needed symbol versions and undefined symbols."""
    needed, versions = tuple(needed), tuple(versions)
    return Linkage(
        needed,
        glibc=_floor(_GLIBC, versions, _RELR_FLOOR if "GLIBC_ABI_DT_RELR" in versions else None),
        glibcxx=_floor(_GLIBCXX, versions),
        cudart=_first(_CUDART, needed),
        cuda_major=_first(_CUDA_BY_LIBRARY, needed),
        abi=abi_class(symbols),
    )


def _first(pattern: re.Pattern[str], names: Iterable[str]) -> str | None:
    return next((match[1] for name in names if (match := pattern.match(name))), None)


def version_key(text: str) -> tuple[int, ...]:
    """Return a dotted number as a value that sorts (``2.32`` > ``2.4``)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _floor(pattern: re.Pattern[str], versions: Iterable[str], least: str | None = None) -> str | None:
    found = [match[1] for version in versions if (match := pattern.fullmatch(version))]
    return max([*found, *([least] if least else [])], key=version_key, default=None)


def abi_class(undefined: Iterable[str]) -> Abi | None:
    """Return the C++ ABI of a torch extension, None where it is none or exchanges no strings with torch.

    ``c10::Error``'s constructor and its kin carry ``std::string``: ``Ss`` in the old ABI, ``__cxx11`` in the new one. An extension
    with only C names of torch's shim (``aoti_torch_*``) works with both.
    """
    stable = cxx = False
    for name in undefined:
        if _TORCH_CXX.match(name):
            cxx = True
            if "__cxx11" in name:
                return Abi.CXX11
            if _OLD_STRING.search(name):
                return Abi.PRE_CXX11
        elif _STABLE.match(name):
            stable = True
    return Abi.STABLE if stable and not cxx else None


def is_torch_symbol(name: str) -> bool:
    """Say whether a symbol is torch's by its name: something of ``c10``, ``at`` or ``torch``, or of the C shim."""
    return _TORCH_CXX.match(name) is not None or _STABLE.match(name) is not None


def is_interpreter_symbol(symbol: Undefined) -> bool:
    """Say whether the Python executable itself provides this name (``PyObject_Call``, ``_Py_NoneStruct``)."""
    return re.match(r"_?Py[A-Z_]", symbol.name) is not None
