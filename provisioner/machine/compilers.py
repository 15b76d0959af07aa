"""The C++ compilers on the machine: their drivers and versions, read from files; no compiler is run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from provisioner.machine.facts import HostCompiler, Machine
from provisioner.machine.system import System, path_directories

WRAPPERS = ("ccache", "distcc", "icecc", "colorgcc")
"""Links to these stand for a compiler that lies further down the PATH."""

_NAME = re.compile(r"(?:[\w-]+-)?(g|c|clang)\+\+(?:-(\d{1,2})(?:\.\d{1,2})?)?")
_VERSION = re.compile(r"\d{1,2}(\.\d{1,2}){0,2}")
_FULL = re.compile(r"\d{1,2}\.\d{1,2}\.\d{1,2}")
_CMAKE = re.compile(r'^set\(PACKAGE_VERSION "(\d{1,2}\.\d{1,2}\.\d{1,2})', re.MULTILINE)
_WRAPPED = rb"\A#![^\x00]{0,4000}?(/[\w./+-]*/[\w-]*\+\+[\w.-]*)"
LIBRARIES = ("lib", "lib64", "libexec")
GCC_MAJORS = {str(major) for major in range(4, 20)}
"""Those looked for in a driver that lies alone, without its libraries."""
DPKG = "/var/lib/dpkg/status"


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
    """Return the compiler at ``path``, None where no file states its version. Nothing is run; a wrapper script is looked into.

    The version is as exact as a file states it, and at least the major number, which is what decides what a compiler can build.
    """
    real = system.realpath(path)
    wrapped = system.search(real, _WRAPPED)
    if wrapped is not None and system.exists(wrapped):
        real = system.realpath(wrapped)
    kind = "clang" if "clang" in os.path.basename(real) else "gcc"
    version = _clang_version(system, real) if kind == "clang" else _gcc_version(system, real)
    return HostCompiler(kind, path, version) if version else None


def _clang_version(system: System, real: str) -> str | None:
    """Return clang's version: of its resource directory ``../lib/clang/VERSION`` (the major alone since 16), its CMake file, its package."""
    prefix = os.path.dirname(os.path.dirname(real))
    stated = [name for library in LIBRARIES for name in _names(system, f"{prefix}/{library}/clang")]
    majors = _majors(stated, real)
    full = {name for name in stated if _FULL.fullmatch(name) and name.split(".")[0] in majors}
    if len(full) == 1:
        return full.pop()
    for library in LIBRARIES:
        if match := _CMAKE.search(system.read(f"{prefix}/{library}/cmake/clang/ClangConfigVersion.cmake") or ""):
            return match[1]
    return _packaged(system, "clang", majors) or _only(majors)


def _gcc_version(system: System, real: str) -> str | None:
    """Return gcc's version: its directory ``../lib/gcc/TARGET/VERSION`` has it, else the driver holds it as a string.

    Debian and Red Hat name that directory by the major version alone; with several of them the driver's string or name tells which.
    """
    prefix = os.path.dirname(os.path.dirname(real))
    targets = (target for library in LIBRARIES for target in system.glob(f"{prefix}/{library}/gcc", "*-*"))
    stated = [name for target in targets for name in _names(system, target)]
    majors = _majors(stated or _names(system, f"{prefix}/include/c++"), real) or GCC_MAJORS
    full = {name for name in stated if _FULL.fullmatch(name) and name.split(".")[0] in majors}
    if len(full) == 1 and len(majors) == 1:
        return full.pop()
    held = next((text for major in sorted(majors) if (text := system.search(real, _held(major)))), None)
    return held or _packaged(system, "g\\+\\+", majors) or _only(majors)


def _held(major: str) -> bytes:
    """Return the pattern of a version of ``major`` as a string by itself; it starts with plain text, which makes the search fast."""
    return rf"({major}\.(?<![\d.]{major}\.)\d{{1,2}}\.\d{{1,2}})[\x00\n]".encode()


def _names(system: System, directory: str) -> list[str]:
    names = (os.path.basename(path) for path in system.glob(directory, "[0-9]*"))
    return [name for name in names if _VERSION.fullmatch(name)]


def _majors(stated: list[str], real: str) -> set[str]:
    """Return the major versions that the program ``real`` may have: the one in its name, else those of the directories."""
    named = _NAME.fullmatch(os.path.basename(real))
    return {named[2]} if named and named[2] else {name.split(".")[0] for name in stated}


def _only(majors: set[str]) -> str | None:
    return next(iter(majors)) if len(majors) == 1 else None


def _packaged(system: System, package: str, majors: set[str]) -> str | None:
    """Return the upstream version of Debian's package of the one major version, such as ``clang-16``."""
    if len(majors) != 1:
        return None
    field = rf"\nPackage: {package}-{_only(majors)}\n(?:[^\n]+\n)*?Version: (?:\d+:)?(\d+\.\d+\.\d+)"
    return system.search(DPKG, field.encode())
