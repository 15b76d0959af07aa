"""A Machine as lines of text: label, fact, and in brackets the source that answered."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.machine.facts import Gpu, Machine

WIDTH = 14
UNKNOWN = "unknown"


def machine_lines(machine: Machine) -> Iterator[str]:
    """Yield the lines that ``detect`` prints; facts nobody stated read ``unknown``."""
    yield from _gpu_lines(machine)
    driver = machine.driver.version
    cuda = f", runs CUDA up to {machine.driver.cuda}" if machine.driver.cuda else ""
    yield _line("driver", f"{driver}{cuda}" if driver else "none found", machine.origins.get("driver.version"))
    yield from _platform_lines(machine)
    yield from _resource_lines(machine)
    yield from _tool_lines(machine)
    yield from _software_lines(machine)
    for fault in machine.faults:
        yield _line("fault", f"{fault.code}: {fault.detail}")


def _line(label: str, fact: str, source: str | None = None) -> str:
    return f"{label:<{WIDTH}}{fact}" + (f"  [{source}]" if source else "")


def _gpu_lines(machine: Machine) -> Iterator[str]:
    if not machine.gpus:
        yield _line("GPU", "none found")
    for index, gpu in enumerate(machine.gpus):
        yield _line(f"GPU {index}", _gpu(gpu), gpu.source)
    if machine.cuda_visible_devices is not None:
        yield _line("", f"CUDA_VISIBLE_DEVICES={machine.cuda_visible_devices}", "environment")


def _gpu(gpu: Gpu) -> str:
    parts = [gpu.name or "unnamed", f"compute capability {gpu.compute_capability or UNKNOWN}"]
    parts += [f"{gpu.memory_mib} MiB"] if gpu.memory_mib else []
    parts += [{"mig": "MIG instance", "vgpu": "vGPU"}.get(gpu.partition, gpu.partition)] if gpu.partition else []
    parts += [gpu.vendor.upper()] if gpu.vendor != "nvidia" else []
    return ", ".join(parts)


def _platform_lines(machine: Machine) -> Iterator[str]:
    platform = machine.platform
    yield _line(
        "system",
        f"{platform.os or platform.system or UNKNOWN}, {platform.machine or UNKNOWN}, kernel {platform.kernel or UNKNOWN}",
    )
    libc = f"glibc {platform.glibc}" if platform.glibc else f"musl {platform.musl}" if platform.musl else UNKNOWN
    yield _line("C library", libc)
    for label, fact in (
        ("WSL", platform.wsl if platform.wsl != "no" else None),
        ("container", platform.container),
        ("Jetson L4T", platform.jetson),
    ):
        if fact:
            yield _line(label, fact)


def _resource_lines(machine: Machine) -> Iterator[str]:
    resources, origins = machine.resources, machine.origins
    yield _line("CPUs", str(resources.cpus or UNKNOWN), _limit(origins.get("resources.cpus")))
    available = f" ({resources.memory_available_mib} available)" if resources.memory_available_mib is not None else ""
    memory = f"{resources.memory_mib} MiB{available}" if resources.memory_mib is not None else UNKNOWN
    yield _line("memory", memory, _limit(origins.get("resources.memory_mib")))
    free = ", ".join(f"{purpose} {mib} MiB" for purpose, mib in resources.disk_free_mib.items())
    yield _line("free space", free or UNKNOWN)


def _limit(origin: str | None) -> str | None:
    """Name the source only where a control group, not the machine, sets the number."""
    return origin if origin and origin.startswith("cgroup") else None


def _tool_lines(machine: Machine) -> Iterator[str]:
    for toolkit in machine.toolkits:
        yield _line("CUDA toolkit", f"{toolkit.version} in {toolkit.root}", toolkit.source)
    for compiler in machine.compilers:
        yield _line("C++ compiler", f"{compiler.kind} {compiler.version}, {compiler.path}")
    for python in machine.pythons:
        yield _line("Python", f"{python.version}, {python.path}{'' if python.headers else ', without headers'}")
    for tool in machine.conda:
        count = len(tool.envs)
        yield _line(tool.kind, f"{tool.path}, {count} environment{'' if count == 1 else 's'}")


def _software_lines(machine: Machine) -> Iterator[str]:
    software = machine.software
    if software.python is None:
        return
    yield _line("in Python", software.python, "interpreter")
    if software.torch:
        abi = {True: ", C++11 ABI", False: ", pre-C++11 ABI", None: ""}[software.torch_cxx11_abi]
        yield _line(" torch", f"{software.torch}, {f'CUDA {software.torch_cuda}' if software.torch_cuda else 'no CUDA'}{abi}")
    for name in ("flash_attn", "xformers", "triton", "bitsandbytes", "unsloth", "transformers", "trl"):
        if version := getattr(software, name):
            yield _line(f" {name}", version)
