"""The C++ compilers on the machine: their drivers and versions, read from files where these state them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from provisioner.machine.facts import HostCompiler, Machine
from provisioner.machine.system import System, path_directories

WRAPPERS = ("ccache", "distcc", "icecc", "colorgcc")
"""Links to these stand for a compiler that lies further down the PATH."""

_NAME = re.compile(r"(?:[\w-]+-)?(g|c|clang)\+\+(?:-(\d{1,2})(?:\.\d{1,2})?)?")
_FULL = re.compile(r"\d{1,2}\.\d{1,2}\.\d{1,2}")
_CLANG = re.compile(r"clang version (\d{1,2}\.\d{1,2}\.\d{1,2})")
_GCC = re.compile(r"\) (\d{1,2}\.\d{1,2}\.\d{1,2})")


def facts(system: System, known: Machine) -> Machine:
    """Return each compiler once, by its real file: ``CXX`` first, then in PATH order, then Red Hat's toolsets and conda's."""
    found: dict[str, HostCompiler] = {}
    for path in _candidates(system, known):
        real = system.realpath(path)
        if real in found or os.path.basename(real) in WRAPPERS:
            continue
        if compiler := identify(system, path):
            found[real] = compiler
    return Machine(compilers=tuple(found.values()))


def _candidates(system: System, known: Machine) -> Iterator[str]:
    chosen = system.environ.get("CXX", "")
    if chosen.startswith("/") and system.exists(chosen):
        yield chosen
    toolsets = (*system.glob("/opt/rh", "devtoolset-*"), *system.glob("/opt/rh", "gcc-toolset-*"))
    conda = (prefix for install in known.conda for prefix in (install.root, *install.envs) if prefix)
    places = (
        *path_directories(system),
        *(f"{toolset}/root/usr/bin" for toolset in toolsets),
        *(f"{prefix}/bin" for prefix in conda),
    )
    for directory in dict.fromkeys(places):
        names = system.glob(directory, "*++*")
        yield from sorted((path for path in names if _NAME.fullmatch(os.path.basename(path))), key=_preference)


def _preference(path: str) -> tuple[int, str]:
    """Sort plain names (``g++``, ``c++``) before those with a version or target."""
    order = ("g++", "c++", "clang++")
    name = os.path.basename(path)
    return (order.index(name) if name in order else len(order)), name


def identify(system: System, path: str) -> HostCompiler | None:
    """Return the compiler at ``path``; it is run only where no file states its version (a wrapper script)."""
    real = system.realpath(path)
    kind = "clang" if "clang" in os.path.basename(real) else "gcc"
    version = _clang_version(system, real) if kind == "clang" else _gcc_version(system, real)
    if version is not None:
        return HostCompiler(kind, path, version)
    said = system.run([path, "--version"], timeout=3.0).out[:2000]
    if match := _CLANG.search(said):
        return HostCompiler("clang", path, match[1])
    match = _GCC.search(said)
    return HostCompiler("gcc", path, match[1]) if match else None


def _clang_version(system: System, real: str) -> str | None:
    """Return clang's version from its resource directory ``../lib/clang/VERSION`` (the major alone since 16)."""
    names = _names(system, f"{os.path.dirname(os.path.dirname(real))}/lib/clang")
    full = [name for name in names if _FULL.fullmatch(name)]
    return full[0] if len(full) == 1 else None


def _gcc_version(system: System, real: str) -> str | None:
    """Return gcc's version: its directory ``../lib/gcc/TARGET/VERSION`` has it, else the driver holds it as a string.

    Debian and Red Hat name that directory by the major version alone; with several of them the driver's name tells which.
    """
    prefix = os.path.dirname(os.path.dirname(real))
    names = [name for target in system.glob(f"{prefix}/lib/gcc", "*-*") for name in _names(system, target)]
    named = _NAME.fullmatch(os.path.basename(real))
    if named and named[2]:
        names = [name for name in names if name.split(".")[0] == named[2]]
    found = sorted(set(names))
    if len(found) != 1:
        return None
    if _FULL.fullmatch(found[0]):
        return found[0]
    return system.search(real, rf"({re.escape(found[0])}\.\d{{1,2}}\.\d{{1,2}})[\x00\n]".encode())


def _names(system: System, directory: str) -> list[str]:
    return [os.path.basename(path) for path in system.glob(directory, "[0-9]*")]
