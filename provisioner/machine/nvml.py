"""GPUs, driver and CUDA version from the NVIDIA management library, in this process.

Two halves: `read_library` asks the library and keeps raw answers (a capture stores them); `facts` turns them into
facts. Each question may fail by itself: the Python bindings can be newer than the driver (a function is missing), the
library can be newer than the kernel module (nothing can be asked), and a device can be lost while others work.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from provisioner.machine.facts import Driver, Fault, Gpu, Machine
from provisioner.machine.system import System

if TYPE_CHECKING:
    from ctypes import CDLL

LIBRARIES = (
    "libnvidia-ml.so.1",
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",  # WSL2: the Windows driver's, not always in the loader's cache
    "/run/opengl-driver/lib/libnvidia-ml.so.1",  # NixOS
    "/usr/local/nvidia/lib64/libnvidia-ml.so.1",  # GKE and other managed Kubernetes nodes mount the driver here
)
LIBRARY_NOT_FOUND = "library not found"

# Return codes and modes of NVML, as nvidia-ml-py 13.615 names them (compared 2026-11-24).
NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST, LIB_RM_VERSION_MISMATCH = 4, 9, 15, 18
VIRTUALIZATION_VGPU = 2

FAULTS: dict[int | None, str] = {
    NO_PERMISSION: "cuda-unavailable",
    GPU_IS_LOST: "gpu-lost",
    LIB_RM_VERSION_MISMATCH: "driver-lib-mismatch",
}

MAX_DEVICES = 256
"""More devices than any host has; a larger count is a lie."""

MAX_MEMORY_MIB = 2**24
"""16 TiB: more than any device has."""

_VGPU_NAME = re.compile(r"-\d{1,3}[ABCQ]$")
_DRIVER = re.compile(r"\d{2,4}(\.\d{1,4}){1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """Raw answers about a device or MIG instance: bytes of memory, compute capability as a pair."""

    name: str | None = None
    capability: tuple[int, int] | None = None
    memory_bytes: int | None = None
    mig_enabled: bool = False
    virtualization: int | None = None
    instances: tuple[NvmlDevice, ...] = ()
    error: str | None = None
    error_code: int | None = None


@dataclass(frozen=True, slots=True)
class NvmlReading:
    """Raw answers of the library; ``error`` says why there are none. ``cuda`` is as NVML counts it, 12040 for 12.4."""

    driver: str | None = None
    cuda: int | None = None
    devices: tuple[NvmlDevice, ...] = ()
    error: str | None = None
    error_code: int | None = None


def read_library() -> NvmlReading:
    """Load NVML, ask it everything, and return the raw answers. Never raises; can hang as long as the driver does."""
    from provisioner.machine.nvml_plain import read_plainly

    library = _load()
    if library is None:
        return NvmlReading(error=LIBRARY_NOT_FOUND)
    return read_plainly(library) or _read_through_bindings()


def _read_through_bindings() -> NvmlReading:
    """Return what nvidia-ml-py makes of the loaded library: MIG instances, and the error of each refused question."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:  # a lying library: missing symbols, wrong architecture, any NVML error
        return NvmlReading(error=_text(error), error_code=getattr(error, "value", None))
    try:
        return NvmlReading(
            driver=_string(_ask(pynvml, "nvmlSystemGetDriverVersion")),
            cuda=_ask(pynvml, "nvmlSystemGetCudaDriverVersion_v2"),
            devices=tuple(_devices(pynvml)),
        )
    except Exception as error:
        return NvmlReading(error=_text(error), error_code=getattr(error, "value", None))
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()


def _load() -> CDLL | None:
    """Return the library, None where it cannot be loaded; once it is, the bindings find it by its name, wherever it lies."""
    import ctypes

    for name in LIBRARIES:
        with suppress(OSError):
            return ctypes.CDLL(name)
    return None


def _devices(pynvml: Any) -> Iterator[NvmlDevice]:
    count = _ask(pynvml, "nvmlDeviceGetCount")
    for index in range(min(count, MAX_DEVICES) if isinstance(count, int) else 0):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except Exception as error:
            yield NvmlDevice(error=_text(error), error_code=getattr(error, "value", None))
            continue
        mig = _ask(pynvml, "nvmlDeviceGetMigMode", handle)
        enabled = isinstance(mig, (list, tuple)) and bool(mig) and mig[0] == 1
        instances = tuple(_instances(pynvml, handle)) if enabled else ()
        virtualization = _ask(pynvml, "nvmlDeviceGetVirtualizationMode", handle)
        yield _device(pynvml, handle, mig_enabled=enabled, virtualization=virtualization, instances=instances)


def _instances(pynvml: Any, handle: Any) -> Iterator[NvmlDevice]:
    count = _ask(pynvml, "nvmlDeviceGetMaxMigDeviceCount", handle)
    for index in range(min(count, MAX_DEVICES) if isinstance(count, int) else 0):
        instance = _ask(pynvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        if instance is not None:
            yield _device(pynvml, instance)


def _device(pynvml: Any, handle: Any, **more: Any) -> NvmlDevice:
    capability = _ask(pynvml, "nvmlDeviceGetCudaComputeCapability", handle)
    memory = _ask(pynvml, "nvmlDeviceGetMemoryInfo", handle)
    return NvmlDevice(
        name=_string(_ask(pynvml, "nvmlDeviceGetName", handle)),
        capability=(int(capability[0]), int(capability[1])) if capability else None,
        memory_bytes=int(memory.total) if memory else None,
        **more,
    )


def _ask(pynvml: Any, function: str, *arguments: Any) -> Any:
    """Return the answer, None for a question that these bindings or this driver do not know or refuse."""
    try:
        return getattr(pynvml, function)(*arguments)
    except Exception:  # bindings newer than the driver raise anything from NVMLError to AttributeError
        return None


def _string(value: Any) -> str | None:
    """Return text: the bindings gave bytes before 11.510 and give str since."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value if isinstance(value, str) else None


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__


def facts(system: System, known: Machine) -> Machine:
    """Return the GPUs (a MIG instance is a device of its own), the driver's version, its CUDA version, and faults."""
    reading = system.nvml()
    if reading.error is not None:
        fault = fault_of(reading.error_code, reading.error)
        return Machine(faults=(fault,) if fault else ())
    gpus: list[Gpu] = []
    faults: list[Fault] = []
    answering = any(device.error is None for device in reading.devices)
    for device in reading.devices:
        if device.error_code == NO_PERMISSION and answering:
            continue  # NVML counts others' GPUs too: a job's cgroup shuts it out from them (nvmlDeviceGetCount_v2 in NVML's reference)
        if device.error is not None:
            faults.append(Fault(FAULTS.get(device.error_code, "gpu-lost"), f"NVML: {device.error}"))
        elif device.mig_enabled and not device.instances:
            gpus.append(replace(_gpu(device), memory_mib=None, partition="mig"))
            detail = f"{device.name or 'a GPU'} has MIG mode on, but no instance is visible here"
            faults.append(Fault("mig-without-instance", detail))
        else:
            gpus += [_gpu(instance, parent=device) for instance in device.instances] or [_gpu(device)]
    driver = Driver(version=driver_version(reading.driver), cuda=cuda_version(reading.cuda))
    return Machine(gpus=tuple(gpus), driver=driver, faults=tuple(faults))


def _gpu(device: NvmlDevice, *, parent: NvmlDevice | None = None) -> Gpu:
    capability = device.capability or (parent.capability if parent else None)
    name = device.name or (f"{parent.name} MIG" if parent and parent.name else None)
    vgpu = device.virtualization == VIRTUALIZATION_VGPU or is_vgpu_name(name)
    memory = (device.memory_bytes or 0) // 2**20
    return Gpu(
        name=name,
        compute_capability=f"{capability[0]}.{capability[1]}" if capability and _is_sane(*capability) else None,
        memory_mib=memory if 0 < memory < MAX_MEMORY_MIB else None,
        partition="mig" if parent else "vgpu" if vgpu else None,
        source="nvml",
    )


def _is_sane(major: int, minor: int) -> bool:
    return 1 <= major <= 99 and 0 <= minor <= 9


def is_vgpu_name(name: str | None) -> bool:
    """Say whether a GPU's name carries a vGPU profile, such as ``NVIDIA A40-48Q`` (NVIDIA vGPU guide, "vGPU types")."""
    return bool(name and _VGPU_NAME.search(name))


def driver_version(text: str | None) -> str | None:
    """Return ``text`` if it looks like a driver version (``550.54.15``, Windows ``566.36``), else None."""
    return text if text is not None and _DRIVER.fullmatch(text) else None


def cuda_version(number: int | None) -> str | None:
    """Return ``12.4`` for NVML's 12040, None for what cannot be one."""
    if number is None or not 1000 <= number < 100_000:
        return None
    return f"{number // 1000}.{number % 1000 // 10}"


def fault_of(code: int | None, text: str) -> Fault | None:
    """Return the fault that an NVML error is by itself; a missing library or driver is one only if there is a GPU (see `pci`)."""
    if text == LIBRARY_NOT_FOUND or code == DRIVER_NOT_LOADED:
        return None
    hint = ": this user may not open /dev/nvidia*" if code == NO_PERMISSION else ""
    return Fault(FAULTS.get(code, "nvml-unusable"), f"NVML: {text}{hint}")
