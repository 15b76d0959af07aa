"""The plain case of NVML, asked without the bindings: whole GPUs, and no question refused.

Importing nvidia-ml-py 13.615 declares a thousand structures; that takes longer than asking NVML itself (measured
2026-11-25: as long as all other imports of ``provision detect``, and the interpreter lock is held all the while). The
eleven functions asked here have had the same signatures since driver 418. Whatever is not plain — MIG instances, a refused
question, a missing function — is left to the bindings, which know each version of NVML and its errors.
"""

from __future__ import annotations

import ctypes
from typing import Any

from provisioner.machine.nvml import MAX_DEVICES, NvmlDevice, NvmlReading

TEXT_BYTES = 96
"""NVML_DEVICE_NAME_V2_BUFFER_SIZE, the longest text asked for."""


class _NotPlainError(Exception):
    """A question was refused, or its answer is for the bindings to follow up."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def read_plainly(library: ctypes.CDLL) -> NvmlReading | None:
    """Return NVML's raw answers, None where the machine is not a plain case. Can hang as long as the driver does."""
    try:
        _ask(library, "nvmlInit_v2")
    except _NotPlainError:
        return None
    try:
        return NvmlReading(
            driver=_text(library, "nvmlSystemGetDriverVersion"),
            cuda=_number(library, "nvmlSystemGetCudaDriverVersion_v2"),
            devices=_devices(library),
        )
    except _NotPlainError:
        return None
    finally:
        library.nvmlShutdown()


def _devices(library: ctypes.CDLL) -> tuple[NvmlDevice, ...]:
    count = _number(library, "nvmlDeviceGetCount_v2")
    if not 0 <= count <= MAX_DEVICES:
        raise _NotPlainError
    return tuple(_device(library, index) for index in range(count))


def _device(library: ctypes.CDLL, index: int) -> NvmlDevice:
    handle, memory = ctypes.c_void_p(), _Memory()
    _ask(library, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    _ask(library, "nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory))
    if _has_mig(library, handle):
        raise _NotPlainError
    return NvmlDevice(
        name=_text(library, "nvmlDeviceGetName", handle),
        capability=_pair(library, "nvmlDeviceGetCudaComputeCapability", handle),
        memory_bytes=memory.total,
        virtualization=_virtualization(library, handle),
    )


def _has_mig(library: ctypes.CDLL, handle: ctypes.c_void_p) -> bool:
    try:
        return _pair(library, "nvmlDeviceGetMigMode", handle)[0] == 1
    except _NotPlainError:  # most GPUs and older drivers do not know MIG
        return False


def _virtualization(library: ctypes.CDLL, handle: ctypes.c_void_p) -> int | None:
    try:
        return _number(library, "nvmlDeviceGetVirtualizationMode", handle)
    except _NotPlainError:
        return None


def _number(library: ctypes.CDLL, function: str, *handle: ctypes.c_void_p) -> int:
    number = ctypes.c_int()
    _ask(library, function, *handle, ctypes.byref(number))
    return number.value


def _pair(library: ctypes.CDLL, function: str, handle: ctypes.c_void_p) -> tuple[int, int]:
    first, second = ctypes.c_int(), ctypes.c_int()
    _ask(library, function, handle, ctypes.byref(first), ctypes.byref(second))
    return first.value, second.value


def _text(library: ctypes.CDLL, function: str, *handle: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(TEXT_BYTES)
    _ask(library, function, *handle, text, ctypes.c_uint(TEXT_BYTES))
    return text.value.decode("utf-8", "replace")


def _ask(library: ctypes.CDLL, function: str, *arguments: Any) -> None:
    """Call ``function``, which returns 0 when it answered. Raise `_NotPlainError` where it did not, or is missing."""
    asked = getattr(library, function, None)
    if asked is None or asked(*arguments) != 0:
        raise _NotPlainError
