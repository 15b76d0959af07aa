"""The Python interpreters on the machine: the PATH's, pyenv's, uv's and conda's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from provisioner.machine.facts import Machine, PythonInstall
from provisioner.machine.interpreter import prefix_of, pyenv_root, python_version
from provisioner.machine.system import System, home_of, path_directories

_NAME = re.compile(r"python(3(\.\d{1,2})?)?")


def facts(system: System, known: Machine) -> Machine:
    """Return each interpreter once, by its real file, in the order in which a user would meet them."""
    found: dict[str, PythonInstall] = {}
    for path in _candidates(system, known):
        real = system.realpath(path)
        if real not in found and (install := _install(system, path)):
            found[real] = install
    return Machine(pythons=tuple(found.values()))


def _candidates(system: System, known: Machine) -> Iterator[str]:
    for directory in path_directories(system):
        if not directory.endswith("/shims"):
            yield from (path for path in system.glob(directory, "python*") if _NAME.fullmatch(os.path.basename(path)))
    for versions in (f"{pyenv_root(system)}/versions", f"{home_of(system)}/.local/share/uv/python"):
        yield from (python for prefix in system.glob(versions, "*3.*") if (python := _python_in(system, prefix)))
    prefixes = (prefix for install in known.conda for prefix in (install.root, *install.envs) if prefix)
    yield from (python for prefix in prefixes if (python := _python_in(system, prefix)))


def _python_in(system: System, prefix: str) -> str | None:
    return next((path for path in (f"{prefix}/bin/python3", f"{prefix}/bin/python") if system.exists(path)), None)


def _install(system: System, python: str) -> PythonInstall | None:
    version = python_version(system, python)
    return PythonInstall(python, version, _has_headers(system, python, version)) if version else None


def _has_headers(system: System, python: str, version: str) -> bool:
    """Say whether Python.h lies in the include directory of the interpreter, or of the one it is a virtual environment of."""
    minor = ".".join(version.split(".")[:2])
    base = os.path.dirname(os.path.dirname(system.realpath(python)))
    prefixes = dict.fromkeys((prefix_of(system, python), base))
    names = (f"python{minor}", f"python{minor}m", f"python{minor}t")  # m: before 3.8, t: free-threaded
    return any(system.exists(f"{prefix}/include/{name}/Python.h") for prefix in prefixes for name in names)
