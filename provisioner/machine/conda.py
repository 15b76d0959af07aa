"""conda-like tools on the machine, their roots and the environments they know."""

from __future__ import annotations

import os
from collections.abc import Iterator

from provisioner.machine.facts import CondaInstall, Machine
from provisioner.machine.system import System, home_of, which

KINDS = ("conda", "mamba", "micromamba", "pixi")
NAMED_ROOTS = ("miniconda3", "anaconda3", "miniforge3", "mambaforge", "miniconda", "anaconda", "micromamba")
SHARED_ROOTS = ("/opt/conda", "/opt/miniconda3", "/opt/anaconda3", "/opt/miniforge3", "/usr/local/miniconda3")
MAX_ENVS = 200


def facts(system: System, known: Machine) -> Machine:
    """Return each tool once, by its real file, with its root and environments."""
    found: dict[str, CondaInstall] = {}
    for kind, path in _candidates(system):
        real = system.realpath(path)
        if real not in found:
            root = _root(system, kind, real)
            found[real] = CondaInstall(kind, path, root, _envs(system, kind, root))
    return Machine(conda=tuple(found.values()))


def _candidates(system: System) -> Iterator[tuple[str, str]]:
    for kind, variable in (("conda", "CONDA_EXE"), ("micromamba", "MAMBA_EXE")):
        path = system.environ.get(variable, "")
        if path.startswith("/") and system.exists(path):
            yield (kind if os.path.basename(path).startswith(kind) else os.path.basename(path)), path
    for kind in KINDS:
        if path := which(system, kind) or "":
            yield kind, path
    home = home_of(system)
    for root in (*(f"{home}/{name}" for name in NAMED_ROOTS), *SHARED_ROOTS):
        for kind in ("conda", "micromamba"):
            if system.exists(f"{root}/bin/{kind}"):
                yield kind, f"{root}/bin/{kind}"
    for kind, path in (("pixi", f"{home}/.pixi/bin/pixi"), ("micromamba", f"{home}/.local/bin/micromamba")):
        if system.exists(path):
            yield kind, path


def _root(system: System, kind: str, real: str) -> str | None:
    """Return the root prefix: where the tool is installed, or for micromamba where it keeps its environments."""
    if kind == "pixi":
        return None
    if kind == "micromamba":
        chosen = system.environ.get("MAMBA_ROOT_PREFIX")
        places = (chosen, f"{home_of(system)}/micromamba", f"{home_of(system)}/.local/share/mamba")
        return next((place for place in places if place and system.exists(place)), chosen)
    prefix = os.path.dirname(os.path.dirname(real))
    return prefix if system.exists(f"{prefix}/conda-meta") else None


def _envs(system: System, kind: str, root: str | None) -> tuple[str, ...]:
    if root is None:
        return ()
    inside = [path for path in system.glob(f"{root}/envs", "[!.]*") if system.exists(f"{path}/conda-meta")]
    listed = (system.read(f"{home_of(system)}/.conda/environments.txt") or "").splitlines()
    elsewhere = [path for path in listed if path.startswith("/") and path != root and system.exists(f"{path}/conda-meta")]
    return tuple(dict.fromkeys((*inside, *elsewhere)))[:MAX_ENVS]
