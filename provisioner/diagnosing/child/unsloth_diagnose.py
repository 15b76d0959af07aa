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
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from typing import Any

from provisioner.diagnosing.child.surroundings import caches, compile_error, disks, gpu_processes, gpus, host, libcuda
from provisioner.diagnosing.child.waits import cpu_seconds, read, run, waiting

SCHEMA = 1
IMPORT_SECONDS = float(os.environ.get("UNSLOTH_DIAGNOSE_SECONDS", "25"))
"""How long one import may take before it counts as a hang; a judgement."""

WATCHED_SECONDS = 2.0
"""Over how long a child's CPU time is taken, at the end of its limit."""

WATCHED = (
    "torch", "triton", "xformers", "flash-attn", "bitsandbytes", "unsloth", "unsloth-zoo", "transformers", "trl", "peft",
    "accelerate", "datasets", "huggingface-hub", "vllm", "torchvision", "torchaudio", "numpy", "ninja", "packaging", "pip",
)  # fmt: skip
IMPORTS = (
    # distribution, statement
    ("torch", "import torch"),
    ("triton", "import triton, triton.language"),
    ("bitsandbytes", "import bitsandbytes"),
    ("xformers", "import torch, xformers.ops"),
    ("flash-attn", "import torch, flash_attn, flash_attn.flash_attn_interface"),
    ("unsloth", "import unsloth"),
)
VARIABLES = re.compile(
    r"^(CONDA_(DEFAULT_ENV|PREFIX|SHLVL)|VIRTUAL_ENV|PYTHONPATH|PYTHONHOME|PYTHONNOUSERSITE|LD_LIBRARY_PATH|LD_PRELOAD|CUDA_.*|NVIDIA_VISIBLE_DEVICES"
    r"|CC|CXX|PYTORCH_.*ALLOC_CONF|TORCH[A-Z_]*|TRITON_.*|UNSLOTH_.*|XFORMERS_.*|HF_(HOME|HUB_OFFLINE|HUB_DISABLE_XET)|NCCL_.*|TMPDIR|MAX_JOBS)$"
)  # fmt: skip

TORCH_FACTS = """
import json, torch
facts = {"version": torch.__version__, "cuda": torch.version.cuda, "hip": getattr(torch.version, "hip", None), "available": torch.cuda.is_available()}
facts["cxx11_abi"] = bool(torch._C._GLIBCXX_USE_CXX11_ABI)
facts["archs"] = torch.cuda.get_arch_list() if facts["available"] else []
facts["devices"] = []
for index in range(torch.cuda.device_count() if facts["available"] else 0):
    found = torch.cuda.get_device_properties(index)
    free, total = torch.cuda.mem_get_info(index)
    facts["devices"].append({"name": found.name, "compute_capability": "%d.%d" % (found.major, found.minor), "memory_mib": found.total_memory >> 20, "free_mib": free >> 20, "total_mib": total >> 20})
import re
loaded = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if line.count(" ") >= 5 and ".so" in line} if __import__("os").path.exists("/proc/self/maps") else set()
facts["libraries"] = sorted(path for path in loaded if re.search(r"/lib(cudart|cudnn|cublas|cublasLt|nccl|nvrtc|nvJitLink|cusparse|cuda)[.-][^/]*$", path))
if facts["available"]:
    torch.empty(1, device="cuda")
    facts["allocator"] = torch.cuda.memory._snapshot().get("allocator_settings")
print("FACTS=" + json.dumps(facts))
"""

ATTENTION = """
import torch
from flash_attn import flash_attn_func
q = torch.randn(1, 64, 2, 64, device="cuda", dtype=torch.float16)
out = flash_attn_func(q, q, q, causal=True)
torch.cuda.synchronize()
reference = torch.nn.functional.scaled_dot_product_attention(*(q.transpose(1, 2).double(),) * 3, is_causal=True).transpose(1, 2)
print("FACTS=%.3g" % (out.double() - reference).abs().max().item())
"""


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
    packages = distributions()
    found = {
        "python": interpreter(),
        "packages": packages,
        "variables": {name: value for name, value in sorted(os.environ.items()) if VARIABLES.match(name)},
        "siblings": siblings(),
        "compilers": {name: shutil.which(name) for name in ("cc", "gcc", "clang", "g++", "nvcc", "ptxas", "ninja")},
        "headers": os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")),
        "disks": disks(),
        "caches": caches(),
        "locks": stale_locks(),
        "gpus": gpus(),
        "processes": gpu_processes(),
        "host": host(),
        "compile_error": compile_error() if "triton" in packages else None,
        "libcuda": libcuda(),
    }
    found["imports"], found["torch"], found["attention"] = imports(packages, bool(found["gpus"]))
    return found


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
    }


def distributions() -> dict[str, list[dict[str, Any]]]:
    """Return every installed copy of the watched packages, and of any package that is there more than once."""
    from importlib import metadata

    found: dict[str, list[tuple[Any, str]]] = {}
    for entry in dict.fromkeys(os.path.realpath(entry) for entry in sys.path if entry and os.path.isdir(entry)):
        for one in metadata.distributions(path=[entry]):
            name = normal(one.metadata["Name"] or "")
            if name:
                found.setdefault(name, []).append((one, entry))
    return {
        name: [copy_of(one, entry, name) for one, entry in copies]
        for name, copies in sorted(found.items())
        if name in WATCHED or len(copies) > 1
    }


def copy_of(one: Any, entry: str, name: str) -> dict[str, Any]:
    """Return one installed copy: where it lies, who installed it, and whether its compiled parts are really there."""
    where = str(getattr(one, "_path", entry))
    files = [str(one.locate_file(file)) for file in (one.files or []) if str(file).endswith((".so", ".pyd"))]
    copy = {
        "version": one.version,
        "location": entry,
        "metadata": where,
        "installer": (one.read_text("INSTALLER") or "").strip() or None,
    }
    copy["missing"] = [file for file in files if not os.path.exists(file)][:5]
    if name in ("unsloth", "unsloth-zoo", "xformers", "flash-attn"):
        copy["requires"] = [line for line in (one.requires or []) if "extra ==" not in line]
    if name == "flash-attn":
        beside = glob.glob(os.path.join(glob.escape(entry), "flash_attn_[23]_cuda*")) + glob.glob(
            os.path.join(glob.escape(entry), "flash_attn", "*.so")
        )
        copy["extensions"] = sorted({file for file in files + beside if os.path.exists(file)})
    return copy


def normal(name: str) -> str:
    """Return a distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def siblings() -> list[str]:
    """Return the names of the environments that lie beside this one, or in the usual folders."""
    folders = [os.path.dirname(sys.prefix), os.path.join(sys.prefix, "envs"), os.path.expanduser("~/.conda/envs")]
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
    """Return the processes that work in ``folder``."""
    found = []
    for entry in glob.glob("/proc/[0-9]*"):
        try:
            if os.readlink(entry + "/cwd").startswith(folder) or folder in read(entry + "/cmdline"):
                found.append(int(os.path.basename(entry)))
        except OSError:
            continue
    return found


def imports(packages: dict[str, Any], has_gpu: bool) -> tuple[dict[str, Any], Any, Any]:
    """Import what is installed, a few at a time; return the results, torch's facts, and the error of a real attention call."""
    wanted = [(name, statement) for name, statement in IMPORTS if name in packages]
    results: dict[str, Any] = {}
    slots = threading.Semaphore(3)

    def work(name: str, code: str, seconds: float) -> None:
        with slots:
            results[name] = child(code, seconds)

    tasks = [(name, statement, IMPORT_SECONDS) for name, statement in wanted]
    if "torch" in packages:
        tasks.append((" torch", TORCH_FACTS, IMPORT_SECONDS))
    if has_gpu and packages.get("flash-attn"):
        tasks.append((" attention", ATTENTION, IMPORT_SECONDS))
    threads = [threading.Thread(target=work, args=task, daemon=True) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    facts, attention = results.pop(" torch", None), results.pop(" attention", None)
    torch = None
    if facts and facts["outcome"] == "ok" and "FACTS=" in facts["output"]:
        torch = json.loads(facts["output"].split("FACTS=", 1)[1].splitlines()[0])
    return results, torch, attention


def child(code: str, seconds: float) -> dict[str, Any]:
    """Run ``code`` in a fresh interpreter; a hang gives two Python stacks, the CPU time between, and what the kernel says.

    The first stack is taken at half the time, the second at its end: a line that has changed, or a busy CPU, is slow, not hung.
    """
    handle, stacks = tempfile.mkstemp(prefix="stack-")
    os.close(handle)
    guard = "import faulthandler as _f; _f.dump_traceback_later(%r, repeat=True, file=open(%r, 'w'))\n" % (
        max(0.5, (seconds - 1) / 2),
        stacks,
    )
    started = time.time()
    environ = dict(os.environ, PYTHONFAULTHANDLER="1", UNSLOTH_DISABLE_STATISTICS="1", PYTHONDONTWRITEBYTECODE="1")
    process = subprocess.Popen(
        [sys.executable, "-c", guard + code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environ,
        cwd=tempfile.gettempdir(), start_new_session=os.name == "posix",
    )  # fmt: skip
    try:
        text = output_within(process, max(0.5, seconds - WATCHED_SECONDS))
        before = cpu_seconds(process.pid) if text is None else 0.0
        text = output_within(process, WATCHED_SECONDS) if text is None else text
        if text is not None:
            result = {"outcome": "ok" if process.returncode == 0 else "error", "code": process.returncode, "output": text[-6000:]}
        else:
            cpu = (cpu_seconds(process.pid) - before) / WATCHED_SECONDS
            waits = dict(waiting(process.pid), cpu=round(cpu, 2))
            end(process)
            dumps = [part[:6000] for part in re.split(r"^Timeout \(.*\)!\n", read(stacks), flags=re.MULTILINE) if part.strip()]
            result = {
                "outcome": "hang",
                "code": None,
                "output": "",
                "waits": waits,
                "stack": (dumps or [""])[-1],
                "earlier": (dumps or [""])[0],
            }
    finally:
        os.unlink(stacks)
    result["seconds"] = round(time.time() - started, 1)
    return result


def output_within(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """Return a child's output if it ends within ``seconds``, else None."""
    try:
        return process.communicate(timeout=seconds)[0].decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        return None


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop a child and everything that it started."""
    try:
        os.killpg(process.pid, 9)
    except (OSError, AttributeError):
        process.kill()
    process.communicate()


def machine(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the facts that `provision` calls a machine."""
    gpus, host, torch, packages = environment["gpus"], environment["host"], environment["torch"] or {}, environment["packages"]

    def version(name: str) -> str | None:
        return packages[name][0]["version"] if packages.get(name) else None

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
            lines.append("%s: did not return; it waits at:\n%s" % (name, "\n".join(result["stack"].splitlines()[:6])))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
