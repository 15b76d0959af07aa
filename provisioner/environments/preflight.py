"""What must hold before the first byte is fetched: everything that would fail later, named now and together."""

from __future__ import annotations

from provisioner.errors import BuildFailed, NoRoute
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan


def check_disk(machine: Machine, plan: Plan) -> None:
    """Raise `NoRoute` when the prefix, the cache or the temporary folder has less free space than the plan needs.

    The cache holds the unpacked packages and the prefix links to them, so on one file system they are counted once.
    """
    needed = plan.estimates.disk_mib
    if needed is None:
        return
    for purpose in ("prefix", "cache"):
        free = machine.resources.disk_free_mib.get(purpose)
        if free is not None and free < needed:
            variable = "PROVISION_DATA_DIR" if purpose == "prefix" else "PROVISION_CACHE_DIR"
            raise NoRoute(
                f"too little disk space for the {'environment' if purpose == 'prefix' else 'package cache'}: {free} MiB free, about {needed} MiB needed",
                why="torch and its CUDA libraries alone unpack to more than 4 GiB",
                hints=["free space there", f"or put it on another disk: {variable}=/big/disk provision create …"],
                code="disk-or-tmp-full",
            )


def check_compiler(machine: Machine, plan: Plan) -> None:
    """Raise `BuildFailed` when flash-attn must be compiled and a C++ compiler is missing."""
    if plan.compiles and not machine.compilers:
        raise BuildFailed(
            "flash-attn must be compiled here, and there is no C++ compiler",
            why="no g++ or clang++ on PATH",
            hints=[
                "Debian, Ubuntu: sudo apt install g++",
                "Fedora, RHEL: sudo dnf install gcc-c++",
                "or without flash-attn: --no-build",
            ],
            code="compiler-missing",
        )


def check_headers(headers: bool, python: str, plan: Plan) -> None:
    """Raise `BuildFailed` when a build lacks ``Python.h``."""
    if plan.compiles and not headers:
        raise BuildFailed(
            f"flash-attn must be compiled here, and {python} has no headers (Python.h)",
            hints=[
                "Debian, Ubuntu: sudo apt install python3-dev",
                "Fedora, RHEL: sudo dnf install python3-devel",
                "or choose another Python: --python X.Y",
            ],
            code="python-headers-missing",
        )


def warnings(machine: Machine, plan: Plan, *, headers: bool) -> list[str]:
    """Return what will work less well than it could, as sentences."""
    said = []
    if plan.gpu_classes and not machine.compilers and not plan.compiles:
        said.append("no C compiler on this machine: Triton (and so Unsloth) needs one at run time: sudo apt install gcc")
    if plan.gpu_classes and not headers and not plan.compiles:
        said.append(
            "this Python has no headers: Triton (and so Unsloth) compiles against Python.h at run time: sudo apt install python3-dev"
        )
    return said
