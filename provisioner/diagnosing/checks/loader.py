"""Which CUDA libraries the loader really takes: torch's own, or others that LD_LIBRARY_PATH or the system puts before them."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Inventory

_SONAME = re.compile(r"/(lib[a-zA-Z]+)[.-]")
WSL_LIBRARIES = "/usr/lib/wsl/"


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about shadowed libraries and about the driver's libcuda."""
    yield from _shadowed(inventory)
    yield from _libcuda(inventory)


def _shadowed(inventory: Inventory) -> Iterator[Candidate]:
    """A pip torch brings its libraries along (torch/lib, nvidia/*/lib): any other file with such a name was put before them."""
    loaded = [str(path) for path in (inventory.torch or {}).get("libraries", ())]
    homes = {copy.location for copies in inventory.packages.values() for copy in copies}
    own = (os.path.realpath(inventory.python.prefix), inventory.python.prefix, *homes)
    folders = tuple(f"{folder.rstrip('/')}/" for folder in own)
    foreign = [
        path
        for path in loaded
        if not path.startswith(folders)
        and (name := _SONAME.search(path))
        and name[1] != "libcuda"
        and not any(_is_link_to(path, Path(home)) for home in homes)
    ]
    if not foreign or not (inventory.torch or {}).get("cuda") or inventory.python.kind == "conda-base":
        return
    names = ", ".join(sorted({match[1] for path in foreign if (match := _SONAME.search(path))}))
    variable = inventory.variables.get("LD_LIBRARY_PATH", "")
    blamed = any(path.startswith(entry.rstrip("/") + "/") for path in foreign for entry in variable.split(":") if entry)
    title = f"torch runs with other CUDA libraries than its own: {names}" + (
        " (LD_LIBRARY_PATH puts them first)" if blamed else ""
    )
    fix = Fix(
        "take CUDA's directories off LD_LIBRARY_PATH: torch brings its own libraries"
        if blamed
        else "see what puts them before torch's own",
        "unset LD_LIBRARY_PATH" if blamed else "ldconfig -p",
        Safety.REVERSIBLE if blamed else Safety.READ_ONLY,
    )
    evidence = (*(f"loaded: {path}" for path in foreign[:4]), *([f"LD_LIBRARY_PATH={variable[:200]}"] if variable else []))
    yield Candidate("cuda-library-shadowed", 87, Severity.WARNING, title, evidence, fix)


def _is_link_to(path: str, home: Path) -> bool:
    """Say whether torch's own library in ``home`` is a link to ``path``: uv's link mode ``symlink`` leaves the files in its cache."""
    name = Path(path).name
    places = (home / "torch" / "lib" / name, *home.glob(f"nvidia/*/lib/{glob.escape(name)}"))
    return any(os.path.realpath(place) == path for place in places)


def _libcuda(inventory: Inventory) -> Iterator[Candidate]:
    """The driver's library: missing, a toolkit's stub, a forward-compatibility one, or a Linux driver's under WSL."""
    path, error = inventory.libcuda.get("path"), inventory.libcuda.get("error")
    wsl = inventory.host.get("wsl") == "2"
    if not inventory.gpus:  # nothing answers: the machine's own faults say why
        return
    if error is not None and path is None:
        code, remedy = ("wsl-libcuda-not-found", f"put {WSL_LIBRARIES}lib on LD_LIBRARY_PATH and restart WSL") if wsl else (
            "libcuda-not-found", "run `ldconfig`; in a container start it with the driver's compute capability: NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )  # fmt: skip
        title = "nvidia-smi answers, but the loader does not find the driver's libcuda.so.1"
        yield Candidate(code, 23, Severity.ERROR, title, (error,), Fix(remedy, "ldconfig -p"))
    elif path is not None and "/stubs/" in path:
        title = "a toolkit's stub stands in for the driver: CUDA cannot start with it"
        fix = Fix(
            "take the stubs directory off LD_LIBRARY_PATH: it is for linking only", "unset LD_LIBRARY_PATH", Safety.REVERSIBLE
        )
        yield Candidate("libcuda-is-a-stub", 22, Severity.ERROR, title, (f"loaded: {path}",), fix)
    elif path is not None and wsl and not path.startswith(WSL_LIBRARIES):
        title = "a Linux driver's libcuda is loaded under WSL2, where the driver is Windows'"
        fix = Fix(f"remove the Linux NVIDIA driver inside WSL; {WSL_LIBRARIES}lib must win", "ldconfig -p")
        yield Candidate("wsl-linux-driver", 23, Severity.ERROR, title, (f"loaded: {path}",), fix)
    elif path is not None and "/compat/" in path and not (inventory.torch or {}).get("available", True):
        title = "CUDA's forward-compatibility library is loaded, which only data-centre GPUs take"
        fix = Fix(
            "take the compat directory off LD_LIBRARY_PATH, or update the driver", "unset LD_LIBRARY_PATH", Safety.REVERSIBLE
        )
        yield Candidate("cuda-compat-library", 24, Severity.ERROR, title, (f"loaded: {path}",), fix)
