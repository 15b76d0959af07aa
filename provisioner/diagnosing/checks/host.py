"""The machine under the environment: disk space, the C compiler and headers that Triton needs, the CUDA that torch was built for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.findings import Fix, Safety, Severity
from provisioner.diagnosing.inventory import Inventory

LEAST_FREE_MIB = 512
"""Below this hardly any package of the stack can be unpacked; a judgement, not a measurement."""


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about the machine."""
    yield from _disk(inventory)
    yield from _limits(inventory)
    yield from _compiler(inventory)
    yield from _visible(inventory)
    yield from _memory(inventory)


LEAST_FREE_INODES = 10_000
"""torch alone has some 13,000 files; below this not even a smaller package's fit."""


def _disk(inventory: Inventory) -> Iterator[Candidate]:
    places = [disk for name, disk in inventory.disks.items() if name != "shm"]
    full = [disk for disk in places if disk.free_mib < LEAST_FREE_MIB]
    crowded = [disk for disk in places if disk.free_inodes is not None and disk.free_inodes < LEAST_FREE_INODES]
    if full or crowded:
        evidence = (
            *(f"{disk.path}: {disk.free_mib} of {disk.total_mib} MiB free" for disk in full),
            *(
                f"{disk.path}: {disk.free_inodes} inodes free: no more files can be made, whatever space there is"
                for disk in crowded
            ),
        )
        fix = _emptied(inventory, {disk.device for disk in (*full, *crowded)}) or Fix(
            "free space, or point TMPDIR and the caches at a larger file system", "df -h"
        )
        yield Candidate("disk-or-tmp-full", 15, Severity.ERROR, "a file system that installs need is full", evidence, fix)


LEAST_SHARED_MIB = 256
"""Docker gives 64 MiB of shared memory unless told otherwise, through which DataLoader's workers pass batches; a judgement."""

LEAST_OPEN_FILES = 1024
"""Linux's usual soft limit; workers that share tensors by file descriptors and shard readers go beyond less; a judgement."""


def _limits(inventory: Inventory) -> Iterator[Candidate]:
    shared = inventory.disks.get("shm")
    if shared is not None and 0 < shared.total_mib < LEAST_SHARED_MIB:
        title = f"shared memory is {shared.total_mib} MiB: DataLoader workers hang or die of a bus error"
        fix = Fix("start the container with --shm-size=8g or --ipc=host; else dataloader_num_workers=0")
        yield Candidate("shared-memory-small", 92, Severity.WARNING, title, (f"{shared.path}: {shared.total_mib} MiB",), fix)
    soft, hard = (*(inventory.host.get("open_files") or ()), None, None)[:2]
    if soft is not None and 0 <= soft < LEAST_OPEN_FILES:
        title = f"a process may have {soft} files open: data loading ends in 'Too many open files'"
        command = f"ulimit -n {hard}" if hard is not None and hard > soft else "ulimit -n unlimited" if hard == -1 else None
        fix = Fix(
            "raise the limit in the shell that starts the training" if command else "ask for a higher hard limit",
            command,
            Safety.REVERSIBLE,
        )
        evidence = (f"RLIMIT_NOFILE: {soft}, may be raised to {'any number' if hard == -1 else hard}",)
        yield Candidate("open-files-limit-low", 92, Severity.WARNING, title, evidence, fix)


WORTH_MIB = 100
"""A cache smaller than this is not worth emptying."""


def _emptied(inventory: Inventory, devices: set[int | None]) -> Fix | None:
    """Emptying a package cache on a full file system is the one thing that loses nothing: what is needed is fetched again."""
    commands = {
        "pip": [inventory.python.executable, "-m", "pip", "cache", "purge"] if "pip" in inventory.packages else None,
        "uv": [sys.executable, "-m", "uv", "cache", "clean"],
    }
    for name, cache in sorted(inventory.caches.items(), key=lambda item: -item[1].size_mib):
        words = commands.get(name)
        if words and cache.device in devices and cache.device is not None and cache.size_mib >= WORTH_MIB:
            text = f"empty {name}'s cache, {cache.size_mib} MiB in {cache.path}: what is needed is fetched again"
            return Fix(text, shlex.join(words), Safety.REVERSIBLE, automatic=True)
    return None


def _compiler(inventory: Inventory) -> Iterator[Candidate]:
    """Triton compiles a small C stub with the Python headers at its first kernel (triton/runtime/build.py, 3.9): that was tried."""
    error = inventory.compile_error
    if error is None or "triton" not in inventory.packages or inventory.host.get("system") != "linux":
        return
    version = ".".join(inventory.python.version.split(".")[:2])
    if "Python.h" in error:
        title = "Python.h is missing: Triton cannot compile its launcher"
        fix = Fix("install the headers of this Python", f"apt-get install python{version}-dev", Safety.REVERSIBLE)
        yield Candidate("python-headers-missing", 44, Severity.ERROR, title, (error, inventory.python.base_prefix), fix)
    elif error.startswith("no C compiler") or "cannot be run" in error:
        title, fix = (
            "Triton finds no C compiler: the first kernel fails",
            Fix("install a C compiler, or correct CC", "apt-get install gcc", Safety.REVERSIBLE),
        )
        named = inventory.variables.get("CC")
        evidence = (error, *([f"CC={named}"] if named else []))
        yield Candidate("no-c-compiler", 44, Severity.ERROR, title, evidence, fix)
    else:
        fix = Fix("see what the compiler lacks: often libc's own headers", "apt-get install build-essential", Safety.REVERSIBLE)
        yield Candidate("c-compiler-fails", 44, Severity.ERROR, "the C compiler that Triton needs fails", (error,), fix)


def _visible(inventory: Inventory) -> Iterator[Candidate]:
    """CUDA stops reading the variable at the first entry that names no device, and numbers devices by speed unless told otherwise."""
    variable = inventory.variables.get("CUDA_VISIBLE_DEVICES")
    if variable is None or not inventory.gpus or not inventory.torch:
        return
    seen, entries = len(inventory.torch.get("devices") or ()), [entry.strip() for entry in variable.split(",") if entry.strip()]
    evidence = (f"CUDA_VISIBLE_DEVICES={variable}", f"{len(inventory.gpus)} GPUs present, {seen or 'none'} visible to torch")
    unknown = [entry for entry in entries if not _names_a_device(entry, inventory.gpus)]
    hidden = not entries or entries[0] == "-1" or entries[0] in unknown
    if not seen and (not hidden or inventory.torch.get("cuda", "unknown") is None):
        return  # something else hides them: a CPU build of torch, a driver that is too old
    if not seen:
        fix = Fix("unset it, or name a device that exists", "unset CUDA_VISIBLE_DEVICES", Safety.REVERSIBLE)
        yield Candidate("no-visible-device", 43, Severity.ERROR, "CUDA_VISIBLE_DEVICES hides every GPU", evidence, fix)
    elif unknown:
        title = f"CUDA_VISIBLE_DEVICES names devices that are not there: {', '.join(unknown)}; what follows them is ignored"
        fix = Fix("name devices as nvidia-smi lists them", "nvidia-smi -L")
        yield Candidate("visible-devices-wrong", 90, Severity.WARNING, title, evidence, fix)
    mixed = len({gpu.get("name") for gpu in inventory.gpus}) > 1
    if mixed and any(entry.isdigit() for entry in entries) and inventory.variables.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        title = "different GPUs, and CUDA numbers them by speed: the numbers are not nvidia-smi's"
        fix = Fix("number them as nvidia-smi does", "export CUDA_DEVICE_ORDER=PCI_BUS_ID", Safety.REVERSIBLE)
        yield Candidate("device-order-differs", 91, Severity.WARNING, title, evidence, fix, "unsloth#508")


def _names_a_device(entry: str, gpus: Sequence[Mapping[str, str]]) -> bool:
    if entry.lstrip("-").isdigit():
        return 0 <= int(entry) < len(gpus)
    if entry.startswith("MIG-"):
        return True  # instances are not in this list
    return any(gpu.get("uuid", "").startswith(entry) for gpu in gpus)


SMALL_MEMORY_MIB = 12 * 1024
"""Host memory below which loading and converting an 8B model in 16 bits (15 GiB) swaps or is killed; a judgement."""


def _memory(inventory: Inventory) -> Iterator[Candidate]:
    host = inventory.host
    total, limit = host.get("memory_mib"), host.get("memory_limit_mib")
    if limit and total and limit < total and limit < SMALL_MEMORY_MIB:
        title = f"this container may use {limit} of the machine's {total} MiB: loading a model of 8B is ended by the kernel"
        fix = Fix("give the container or job more memory (docker run --memory, Slurm --mem)")
        yield Candidate("memory-limit-small", 92, Severity.WARNING, title, (f"control group limit {limit} MiB",), fix)
    elif host.get("wsl") == "2" and total and total < SMALL_MEMORY_MIB:
        stated = host.get("wslconfig")
        title = f"WSL2 has {total} MiB of memory: by default it takes half of Windows'"
        fix = Fix("raise memory= under [wsl2] in %UserProfile%\\.wslconfig, then `wsl --shutdown`")
        yield Candidate("wsl-memory-small", 92, Severity.WARNING, title, (f".wslconfig: memory={stated or 'not set'}",), fix)
