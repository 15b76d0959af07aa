"""The dry link: which symbols and libraries of an extension a given torch would leave undefined, without importing anything.

What the loader would say at import (``undefined symbol: _ZN3c105ErrorC2E…``, ``libcudart.so.12: cannot open shared object file``) is
known before anything is installed. Lookups go through the libraries' own hash tables, so nothing is cached and nothing can be stale.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from provisioner.wheels.elf import Elf, Undefined, gnu_hash, mapped
from provisioner.wheels.linkage import is_interpreter_symbol, is_torch_symbol
from provisioner.wheels.malformed import MalformedBinary

DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1")
"""Libraries of the driver: there on every machine with a GPU, and on none without."""

SYSTEM = ("libstdc++.so.6", "libm.so.6", "libc.so.6", "libgcc_s.so.1", "libpthread.so.0", "libdl.so.2", "librt.so.1")
"""What is loaded in every Python process that has imported torch; of them only the versions are checked."""

_FLOORS = ("GLIBC_", "GLIBCXX_", "CXXABI_", "GCC_")


@dataclass(frozen=True, slots=True)
class Link:
    """The result: symbols that nothing defines, needed libraries that lie nowhere, symbol versions that theirs lack (``GLIBCXX_3.4.32``)."""

    missing_symbols: tuple[str, ...]
    missing_libraries: tuple[str, ...]
    missing_versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Demand:
    """What an extension asks for: undefined symbols, needed libraries, and where it looks for them itself."""

    undefined: tuple[Undefined, ...]
    needed: tuple[str, ...]
    search_path: tuple[Path, ...] = ()


def missing_symbols(extension: Path, torch_lib_dir: Path) -> tuple[str, ...]:
    """Return the symbols of ``extension`` that neither torch, CUDA, the system nor its own libraries define.

    Raise `MalformedBinary` when one of the files cannot be read.
    """
    return link(demand_of(extension), torch_lib_dir).missing_symbols


def demand_of(extension: Path, beside: Iterable[Path] = ()) -> Demand:
    """Read what an extension file asks for; ``beside`` are the folders of libraries that come along with it."""
    with mapped(extension) as data:
        elf = Elf(data, extension.name)
        origin = str(extension.resolve().parent)
        own = (text.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for text in elf.search_path)
        return Demand(elf.undefined, elf.needed, (Path(origin), *(Path(text) for text in own), *beside))


def link(demand: Demand, torch_lib_dir: Path) -> Link:
    """Resolve ``demand`` against the torch in ``torch_lib_dir`` and this machine's libraries.

    While a needed library is absent, an undefined name that is not torch's may be that library's, and is not held against torch.
    """
    directories = (*demand.search_path, *library_dirs(torch_lib_dir))
    absent = tuple(name for name in demand.needed if not _is_given(name) and _find(name, directories) is None)
    wanted = [symbol for symbol in demand.undefined if _must_be_found(symbol, absent, demand.needed)]
    unresolved = {symbol.name: gnu_hash(symbol.name.encode()) for symbol in wanted}
    for library in _providers(demand.needed, directories, torch_lib_dir):
        if not unresolved:
            break
        _drop_provided(unresolved, library)
    missing = tuple(
        symbol.name for symbol in wanted if symbol.name in unresolved and (not absent or is_torch_symbol(symbol.name))
    )
    return Link(missing, absent, _missing_versions(demand.undefined, directories))


def _missing_versions(undefined: Iterable[Undefined], directories: Sequence[Path]) -> tuple[str, ...]:
    """Return the system's symbol versions that are asked for and that the library found here does not offer."""
    asked = dict.fromkeys(
        (symbol.library, symbol.version) for symbol in undefined if symbol.library in SYSTEM and symbol.version is not None
    )
    offered = {library: _versions_of(_find(library, directories)) for library in {library for library, _ in asked if library}}
    return tuple(
        version for library, version in asked if version and library and offered[library] and version not in offered[library]
    )


def _versions_of(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        with mapped(path) as data:
            return Elf(data, path.name).version_definitions
    except MalformedBinary:
        return frozenset()


def library_dirs(torch_lib_dir: Path) -> tuple[Path, ...]:
    """Return where the loader finds libraries after ``import torch``: torch's, NVIDIA's wheels, the prefix, the system."""
    site = torch_lib_dir.parent.parent
    wheels = sorted(path for pattern in ("nvidia/*/lib", "*.libs", "triton/_C") for path in site.glob(pattern))
    prefix = [site.parent.parent] if site.parent.name.startswith("python") else []
    return (torch_lib_dir, *wheels, *prefix, *_system_dirs())


def _system_dirs() -> list[Path]:
    from_environment = [Path(text) for text in os.environ.get("LD_LIBRARY_PATH", "").split(":") if text]
    configured = [Path(line.strip()) for line in _loader_lines() if line.strip().startswith("/")]
    triplet = f"{platform.machine()}-linux-gnu"
    usual = [Path(base) for base in (f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib64", "/usr/lib64", "/lib", "/usr/lib")]
    return [*from_environment, *configured, *usual]


def _loader_lines() -> Iterator[str]:
    for path in sorted(Path("/etc/ld.so.conf.d").glob("*.conf")):
        try:
            yield from path.read_text(errors="replace").splitlines()
        except OSError:
            continue


def _is_given(name: str) -> bool:
    return name in DRIVER or name.startswith(("ld-linux", "libpython"))


def _find(name: str, directories: Sequence[Path]) -> Path | None:
    return next((path for directory in directories if (path := directory / name).is_file()), None)


def _must_be_found(symbol: Undefined, absent: tuple[str, ...], needed: tuple[str, ...]) -> bool:
    """Leave out what is weak, versioned by the system, the interpreter's or the driver's, or belongs to an absent library."""
    if symbol.weak or is_interpreter_symbol(symbol) or symbol.library in absent:
        return False
    if (symbol.version or "").startswith(_FLOORS):
        return False
    return not (DRIVER[0] in needed and symbol.name.startswith("cu") and symbol.name[2:3].isupper())


def _providers(needed: Iterable[str], directories: Sequence[Path], torch_lib_dir: Path) -> Iterator[Path]:
    """Yield the libraries to ask, the likeliest first, each once."""
    seen: set[Path] = set()
    named = [path for name in (*needed, *SYSTEM) if (path := _find(name, directories))]
    torch = sorted(torch_lib_dir.glob("*.so*"))
    nvidia = sorted(
        path for directory in directories if directory.parent.parent.name == "nvidia" for path in directory.glob("*.so*")
    )
    for path in (*named, *torch, *nvidia):
        real = path.resolve()
        if real not in seen and real.is_file():
            seen.add(real)
            yield real


def _drop_provided(unresolved: dict[str, int], library: Path) -> None:
    with ExitStack() as stack:
        try:
            elf = Elf(stack.enter_context(mapped(library)), library.name)
        except MalformedBinary:  # a linker script or a text file named .so
            return
        exports = elf.exports
        for name in [name for name, hashed in unresolved.items() if exports.provides(name, hashed)]:
            del unresolved[name]
