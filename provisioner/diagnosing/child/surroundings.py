"""The machine around an environment, asked with the standard library alone: GPUs and their holders, host, disks, compiler, libcuda."""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
import time
from typing import Any

from provisioner.diagnosing.child.waits import command, read, run

LOADER = """
import ctypes, json
found = {"error": None, "path": None}
try:
    ctypes.CDLL("libcuda.so.1")
    found["path"] = next((line.split()[-1] for line in open("/proc/self/maps") if "libcuda.so" in line), None)
except OSError as error:
    found["error"] = str(error)
print("FACTS=" + json.dumps(found))
"""


def compile_error() -> str | None:
    """Compile a stub with Python's headers, as Triton does at its first kernel (triton/runtime/build.py); return the error, None without."""
    program = os.environ.get("CC") or next((name for name in ("gcc", "clang", "cc") if shutil.which(name)), None)
    if program is None:
        return "no C compiler: none of cc, gcc, clang is on PATH"
    try:
        folder = tempfile.mkdtemp(prefix="diagnose-")
    except OSError:
        return None  # no room for temporary files: the disks say so
    try:
        source = os.path.join(folder, "stub.c")
        with open(source, "w") as file:
            file.write("#include <Python.h>\nint stub(void) { return PY_MAJOR_VERSION; }\n")
        include = sysconfig.get_paths()["include"]
        code, text = run([program, source, "-shared", "-fPIC", "-I" + include, "-o", os.path.join(folder, "stub.so")], 15)
    except OSError as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code == 0:
        return None
    wrong = [line for line in text.splitlines() if "error" in line.lower()] or text.splitlines()[-1:]
    return (wrong[0] if wrong else "%s cannot be run" % program)[:300]


def libcuda() -> dict[str, Any]:
    """Return which libcuda.so.1 the loader takes here, or its error."""
    code, text = run([sys.executable, "-c", LOADER], 15)
    if code != 0 or "FACTS=" not in text:
        return {"error": (text.strip().splitlines() or ["no answer"])[-1][:300], "path": None}
    found: dict[str, Any] = json.loads(text.split("FACTS=", 1)[1].splitlines()[0])
    return found


def cache_home() -> str:
    """Return where caches lie: the user's, or the nearest directory above that exists."""
    path = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return path if os.path.isdir(path) else os.path.expanduser("~")


def caches() -> dict[str, Any]:
    """Return the package caches that may be emptied: their paths and sizes, MiB, as far as counted in a second each."""
    found = {}
    for name, path in (("pip", os.environ.get("PIP_CACHE_DIR")), ("uv", os.environ.get("UV_CACHE_DIR"))):
        path = path or os.path.join(cache_home(), name)
        if os.path.isdir(path):
            found[name] = {"path": path, "size_mib": size_of(path, 1.0) >> 20, "device": os.stat(path).st_dev}
    return found


def size_of(path: str, seconds: float) -> int:
    """Return the bytes that the files under ``path`` take, counted for at most ``seconds``."""
    total, deadline = 0, time.time() + seconds
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
        if time.time() > deadline:
            break
    return total


def disks() -> dict[str, Any]:
    """Return free and total MiB, and free inodes, where environments, caches, temporary files and shared memory lie.

    The variable is asked before `tempfile`, which passes over a full directory in silence: compilers and pip do not.
    """
    places = {"prefix": sys.prefix, "tmp": os.environ.get("TMPDIR") or fallback_tmp(), "cache": cache_home(), "shm": "/dev/shm"}
    found = {}
    for name, path in places.items():
        try:
            usage, device = shutil.disk_usage(path), os.stat(path).st_dev
        except OSError:
            continue
        inodes = os.statvfs(path) if hasattr(os, "statvfs") else None
        found[name] = {
            "path": path,
            "free_mib": usage.free >> 20,
            "total_mib": usage.total >> 20,
            "free_inodes": inodes.f_favail if inodes and inodes.f_files else None,
            "device": device,
        }
    return found


def fallback_tmp() -> str:
    """Return the usual directory for temporary files; /tmp where no file system takes one."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return "/tmp"


def unwritable() -> dict[str, str]:
    """Return the directories that training writes to and may not be written here: those that exist, or the nearest above them."""
    home = cache_home()
    places = {
        "HF_HOME": os.environ.get("HF_HOME") or os.path.join(home, "huggingface"),
        "TRITON_CACHE_DIR": os.environ.get("TRITON_CACHE_DIR") or os.path.join(os.path.expanduser("~"), ".triton"),
        "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR") or os.path.join(home, "torch_extensions"),
        "TMPDIR": os.environ.get("TMPDIR") or fallback_tmp(),
    }
    return {name: path for name, path in places.items() if not os.access(nearest(path), os.W_OK | os.X_OK)}


def nearest(path: str) -> str:
    """Return a path, or the nearest directory above it that exists."""
    while not os.path.exists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


def gpus() -> list[dict[str, str]]:
    """Return the GPUs as nvidia-smi states them; empty where it does not answer."""
    names = "name,driver_version,memory.total,memory.used,memory.free,compute_cap,uuid,pci.bus_id"
    code, text = run(["nvidia-smi", "--query-gpu=" + names, "--format=csv,noheader,nounits"], 10)
    if code != 0:
        return []
    return [
        dict(zip(names.split(","), (cell.strip() for cell in line.split(","))))
        for line in text.splitlines()
        if line.count(",") == names.count(",")
    ]


def gpu_processes() -> list[dict[str, str]]:
    """Return who holds GPU memory, other users' processes too where the driver shows them."""
    code, text = run(
        ["nvidia-smi", "--query-compute-apps=gpu_bus_id,pid,used_memory,process_name", "--format=csv,noheader,nounits"], 10
    )
    rows = (
        [[cell.strip() for cell in line.split(",", 3)] for line in text.splitlines() if line.count(",") >= 3] if code == 0 else []
    )
    return [
        {"gpu": row[0], "pid": row[1], "used_mib": row[2], "name": row[3], "user": owner(row[1]), "command": command(int(row[1])) if row[1].isdigit() else ""}
        for row in rows
    ]  # fmt: skip


def owner(pid: str) -> str:
    """Return the user whose process it is, empty where it cannot be seen from here."""
    try:
        import pwd

        return pwd.getpwuid(os.stat("/proc/" + pid).st_uid).pw_name
    except (ImportError, KeyError, OSError):
        return ""


def host() -> dict[str, Any]:
    """Return the operating system, kernel, C library and memory."""
    memory = re.search(r"MemTotal:\s+(\d+) kB", read("/proc/meminfo"))
    name = re.search(r'^PRETTY_NAME="?([^"\n]+)', read("/etc/os-release"), re.MULTILINE)
    libc = platform.libc_ver()
    kernel = platform.release()
    wsl = ("2" if "WSL2" in kernel else "1") if "microsoft" in kernel.lower() else "no"
    return {
        "os": name.group(1) if name else platform.system(),
        "system": platform.system().lower(),
        "kernel": kernel,
        "machine": platform.machine(),
        "glibc": libc[1] if libc[0] == "glibc" else None,
        "wsl": wsl,
        "memory_mib": int(memory.group(1)) >> 10 if memory else None,
        "memory_limit_mib": memory_limit(),
        "wslconfig": wslconfig() if wsl == "2" else None,
        "open_files": open_files_limit(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def open_files_limit() -> list[int] | None:
    """Return how many files a process may have open: the limit in force, and up to what it may raise that (-1: without end)."""
    try:
        import resource
    except ImportError:
        return None
    return list(resource.getrlimit(resource.RLIMIT_NOFILE))


def memory_limit() -> int | None:
    """Return the control group's memory limit, MiB; None where there is none."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = read(path).strip()
        if text.isdigit() and int(text) < 1 << 60:
            return int(text) >> 20
    return None


def wslconfig() -> str | None:
    """Return the memory line of the Windows user's .wslconfig, None where there is none."""
    for path in glob.glob("/mnt/c/Users/*/.wslconfig"):
        match = re.search(r"^\s*memory\s*=\s*(\S+)", read(path), re.MULTILINE | re.IGNORECASE)
        if match:
            return match.group(1)
    return None
