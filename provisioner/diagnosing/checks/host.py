"""The machine under the environment: disk space, the C compiler and headers that Triton needs, the CUDA that torch was built for."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Severity
from provisioner.diagnosing.inventory import Inventory

LEAST_FREE_MIB = 512
"""Below this hardly any package of the stack can be unpacked; a judgement, not a measurement."""


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about the machine."""
    yield from _disk(inventory)
    yield from _compiler(inventory)
    yield from _visible(inventory)


def _disk(inventory: Inventory) -> Iterator[Candidate]:
    full = [disk for disk in inventory.disks.values() if disk.free_mib < LEAST_FREE_MIB]
    if full:
        evidence = tuple(f"{disk.path}: {disk.free_mib} of {disk.total_mib} MiB free" for disk in full)
        fix = Fix("free space, or point TMPDIR and the caches at a larger file system", "df -h")
        yield Candidate("disk-or-tmp-full", 15, Severity.ERROR, "a file system that installs need is full", evidence, fix)


def _compiler(inventory: Inventory) -> Iterator[Candidate]:
    """Triton compiles a small C stub with the Python headers at its first kernel (triton/runtime/build.py, 3.9)."""
    if "triton" not in inventory.packages or inventory.host.get("system") != "linux":
        return
    named = inventory.variables.get("CC")
    if not named and not any(inventory.compilers.get(name) for name in ("cc", "gcc", "clang")):
        fix = Fix("install a C compiler", "apt-get install gcc")
        yield Candidate(
            "no-c-compiler",
            44,
            Severity.ERROR,
            "Triton finds no C compiler: the first kernel fails",
            ("none of cc, gcc, clang on PATH",),
            fix,
        )
    if not inventory.headers:
        version = ".".join(inventory.python.version.split(".")[:2])
        fix = Fix("install the headers of this Python", f"apt-get install python{version}-dev")
        yield Candidate(
            "python-headers-missing",
            44,
            Severity.ERROR,
            "Python.h is missing: Triton cannot compile its launcher",
            (inventory.python.base_prefix,),
            fix,
        )


def _visible(inventory: Inventory) -> Iterator[Candidate]:
    variable = inventory.variables.get("CUDA_VISIBLE_DEVICES")
    if variable is not None and inventory.gpus and inventory.torch and not inventory.torch.get("devices"):
        fix = Fix("unset it, or name a device that exists", "unset CUDA_VISIBLE_DEVICES")
        evidence = (f"CUDA_VISIBLE_DEVICES={variable}", f"{len(inventory.gpus)} GPUs present, none visible to torch")
        yield Candidate("no-visible-device", 43, Severity.ERROR, "CUDA_VISIBLE_DEVICES hides every GPU", evidence, fix)
