"""Takes the inventory of one Python environment for flash-attn and Unsloth: facts only, nothing is changed or judged.

Runs alone in any Python from 3.8 on, with nothing but the standard library:

    python unsloth_diagnose.py            prints a summary, then one JSON document
    python unsloth_diagnose.py --json     prints the JSON document only

`provision doctor --report FILE` reads what it prints. Each package is imported in a child of its own with a time limit; a
child that does not return is stopped after it has written its Python stack and what the kernel says it waits for.
`provisioner.diagnosing.inventory.script` puts the imported sister modules in, so that what is emitted is one file.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import re
import shutil
import site
import sys
import sysconfig
import threading
import time
from collections.abc import Callable
from typing import Any

from provisioner.diagnosing.child.attempts import attempts
from provisioner.diagnosing.child.packages import (
    WATCHED,
    conda_records,
    copies,
    distributions,
    normal,
    remnants,
    versions,
    without_record,
)
from provisioner.diagnosing.child.surroundings import (
    caches,
    compile_error,
    disks,
    gpu_processes,
    gpus,
    host,
    libcuda,
    unwritable,
)
from provisioner.diagnosing.child.waits import read, run

SCHEMA = 1
VARIABLES = re.compile(
    r"^(CONDA_(DEFAULT_ENV|PREFIX|SHLVL)|VIRTUAL_ENV|PYTHONPATH|PYTHONHOME|PYTHONNOUSERSITE|LD_LIBRARY_PATH|LD_PRELOAD|CUDA_.*|NVIDIA_VISIBLE_DEVICES"
    r"|CC|CXX|PYTORCH_.*ALLOC_CONF|TORCH[A-Z_]*|TRITON_.*|UNSLOTH_.*|XFORMERS_.*|HF_(HOME|HUB_OFFLINE|HUB_DISABLE_XET)|NCCL_.*|TMPDIR|MAX_JOBS)$"
)  # fmt: skip


def main(words: list[str]) -> int:
    """Print the inventory and return 0."""
    started = time.time()
    document: dict[str, Any] = {"schema": SCHEMA, "made_by": "unsloth_diagnose", "machine": {}, "environment": inventory()}
    document["machine"] = machine(document["environment"])
    document["environment"]["seconds"] = round(time.time() - started, 1)
    if "--json" not in words:
        sys.stdout.write(summary(document["environment"]) + "\n")
    sys.stdout.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0


def inventory() -> dict[str, Any]:
    """Return everything known about this environment as plain values."""
    installed = distributions()
    bare = without_record(installed)
    present = {*installed, *(normal(os.path.basename(path)) for path in bare)}
    answers, threads = ask(surroundings("triton" in present))

    def has_gpu() -> bool:
        threads["gpus"].join()
        return bool(answers["gpus"])

    tried = attempts(present, has_gpu)
    for thread in threads.values():
        thread.join()
    return {
        "python": interpreter(),
        "packages": copies(installed),
        "versions": versions(installed),
        "conda_records": conda_records(),
        "remnants": remnants(),
        "without_record": bare,
        "variables": {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name)},
        "siblings": siblings(),
        "compilers": {name: shutil.which(name) for name in ("cc", "gcc", "clang", "g++", "nvcc", "ptxas", "ninja")},
        "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
        "locks": stale_locks(),
        **answers,
        "torch": facts_of(tried.get("torch")),
        "attention": tried.pop(" attention", None),
        "imports": tried,
    }


def surroundings(triton: bool) -> dict[str, Callable[[], Any]]:
    """Return what is asked of the machine while torch is imported: any of them may wait for a driver or a disk."""
    return {
        "disks": disks,
        "caches": caches,
        "unwritable": unwritable,
        "gpus": gpus,
        "processes": gpu_processes,
        "host": host,
        "compile_error": compile_error if triton else lambda: None,
        "libcuda": libcuda,
    }


def ask(questions: dict[str, Callable[[], Any]]) -> tuple[dict[str, Any], dict[str, threading.Thread]]:
    """Ask all questions at the same time; return where the answers will be, and the threads that wait for them."""
    answers: dict[str, Any] = {}

    def one(name: str, question: Callable[[], Any]) -> None:
        answers[name] = question()

    threads = {name: threading.Thread(target=one, args=(name, question), daemon=True) for name, question in questions.items()}
    for thread in threads.values():
        thread.start()
    return answers, threads


def facts_of(attempt: dict[str, Any] | None) -> Any:
    """Return what torch said about itself, None where it did not come to that."""
    if not attempt or attempt["outcome"] != "ok" or "FACTS=" not in attempt["output"]:
        return None
    return json.loads(attempt["output"].split("FACTS=", 1)[1].splitlines()[0])


def interpreter() -> dict[str, Any]:
    """Return which interpreter this is and what kind of environment it belongs to."""
    conda = os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
    base = conda and (os.path.isdir(os.path.join(sys.prefix, "envs")) or os.path.isdir(os.path.join(sys.prefix, "condabin")))
    virtual = sys.prefix != sys.base_prefix
    kind = "venv" if virtual else "conda-base" if base else "conda" if conda else "system"
    return {
        "executable": sys.executable,
        "version": platform.python_version(),
        "prefix": sys.prefix,
        "base_prefix": sys.base_prefix,
        "kind": kind,
        "path": [entry for entry in sys.path if entry],
        "user_site": site.getusersitepackages() if site.ENABLE_USER_SITE else None,
        "on_path": shutil.which("python") or shutil.which("python3"),
        "prompt": prompt(),
        "managed": os.path.exists(os.path.join(sys.prefix, ".provision", "manifest.json")),
    }


def prompt() -> str | None:
    """Return what a virtual environment was told to show as its name."""
    match = re.search(r"^prompt *= *['\"]?(.*?)['\"]? *$", read(os.path.join(sys.prefix, "pyvenv.cfg")), re.MULTILINE)
    return match.group(1) if match else None


def siblings() -> list[str]:
    """Return the environments that lie beside this one, or in the usual folders; of `provision`'s own the names, which are links."""
    beside = os.path.dirname(sys.prefix)
    folders = [beside, os.path.join(sys.prefix, "envs"), os.path.expanduser("~/.conda/envs")]
    if os.path.exists(os.path.join(sys.prefix, ".provision")):
        folders[0] = os.environ.get("PROVISION_ENVS_DIR") or os.path.join(os.path.dirname(beside), "envs")
    names: set[str] = set()
    for folder in folders:
        for path in glob.glob(os.path.join(glob.escape(folder), "*")):
            if os.path.isdir(os.path.join(path, "conda-meta")) or os.path.isfile(os.path.join(path, "pyvenv.cfg")):
                names.add(path)
    return sorted(names)[:200]


def stale_locks() -> list[dict[str, Any]]:
    """Return lock files of extension builds and the process that holds each, None where nobody does.

    torch's file baton waits for such a file for ever (torch/utils/file_baton.py).
    """
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or os.path.expanduser("~/.cache/torch_extensions")
    found = []
    for path in glob.glob(os.path.join(glob.escape(root), "**", "lock"), recursive=True)[:50]:
        try:
            age = time.time() - os.path.getmtime(path)
        except OSError:
            continue
        found.append({"path": path, "age_seconds": int(age), "builders": builders(os.path.dirname(path))})
    return found


def builders(folder: str) -> list[int]:
    """Return the processes that work in ``folder`` or hold a file of it open: torch keeps its lock so."""
    found = []
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            opened = (os.readlink(path) for path in glob.glob(entry + "/fd/*"))
            here = os.readlink(entry + "/cwd").startswith(folder) or folder in read(entry + "/cmdline")
            if here or any(path.startswith(folder + os.sep) for path in opened):
                found.append(int(os.path.basename(entry)))
        except OSError:
            continue
    return found


def machine(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that `provision` calls a machine."""
    gpus, host, torch, version = environment["gpus"], environment["host"], environment["torch"] or {}, environment["versions"].get

    nvcc = run(["nvcc", "--version"], 10)[1] if environment["compilers"]["nvcc"] else ""
    release = re.search(r"V(\d+\.\d+\.\d+)", nvcc)

    def whole(text: str) -> int | None:
        return int(text) if text.isdigit() else None

    devices = [
        {"name": gpu["name"], "compute_capability": gpu["compute_cap"] if re.match(r"^\d+\.\d$", gpu["compute_cap"]) else None, "memory_mib": whole(gpu["memory.total"]), "source": "nvidia-smi"}
        for gpu in gpus
    ]  # fmt: skip
    return {
        "gpus": devices,
        "driver": {"version": gpus[0]["driver_version"] if gpus else None},
        "platform": {"os": host["os"], "glibc": host["glibc"], "wsl": host["wsl"], "machine": host["machine"], "system": host["system"], "kernel": host["kernel"]},
        "resources": {"cpus": host["cpus"], "memory_mib": host["memory_mib"]},
        "software": {
            "python": environment["python"]["version"],
            "torch": torch.get("version") or version("torch"),
            "torch_cuda": torch.get("cuda"),
            "torch_cxx11_abi": torch.get("cxx11_abi"),
            "nvcc": release.group(1) if release else None,
            "flash_attn": version("flash-attn"),
            "xformers": version("xformers"),
            "triton": version("triton"),
            "bitsandbytes": version("bitsandbytes"),
            "unsloth": version("unsloth"),
            "transformers": version("transformers"),
            "trl": version("trl"),
        },
        "cuda_visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
    }  # fmt: skip


def summary(found: dict[str, Any]) -> str:
    """Return the inventory in a few lines for people."""
    lines = ["%s (%s), Python %s" % (found["python"]["prefix"], found["python"]["kind"], found["python"]["version"])]
    lines += [
        "GPU: %s, driver %s, %s of %s MiB used" % (gpu["name"], gpu["driver_version"], gpu["memory.used"], gpu["memory.total"])
        for gpu in found["gpus"]
    ]
    for name in WATCHED:
        for copy in found["packages"].get(name, ()):
            result = found["imports"].get(name)
            lines.append(
                "%-16s %-18s %s"
                % (name, copy["version"], "import: %s (%s s)" % (result["outcome"], result["seconds"]) if result else "")
            )
    for name, result in sorted(found["imports"].items()):
        if result["outcome"] == "error":
            lines.append("%s: %s" % (name, (result["output"].strip().splitlines() or ["failed"])[-1]))
        elif result["outcome"] == "hang":
            lines.append("%s: did not return; it was at:\n%s" % (name, "\n".join(result["stack"].splitlines()[:6])))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
