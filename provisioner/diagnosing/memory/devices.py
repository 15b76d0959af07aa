"""Each GPU's memory and the processes that hold it, as NVML states them; nvidia-smi where NVML does not load."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from provisioner.diagnosing.memory.observed import VARIABLE, Observed, TorchDevice, ask, folder, is_observed, living

NVML_SECONDS = 10.0
"""How long the driver may take: a wedged one never answers."""

COMMAND_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Holder:
    """A process with memory on a GPU; ``used`` is bytes as the driver counts them, its CUDA context included.

    ``command`` and ``user`` are None where the process cannot be seen from here (another container). ``variables`` are the
    allocator's as the process was started with them, None where they may not be read. ``silent`` says that it is observed and did not
    answer.
    """

    pid: int
    used: int | None
    user: str | None = None
    command: str | None = None
    variables: dict[str, str] | None = None
    observed: Observed | None = None
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU, bytes. ``reserved`` is what the driver keeps for itself, part of ``used`` in nvidia-smi's older versions only."""

    index: int
    name: str
    total: int
    used: int
    free: int
    reserved: int | None = None
    holders: tuple[Holder, ...] = ()
    source: str = "nvml"
    uuid: str | None = None

    @property
    def unaccounted(self) -> int:
        """Bytes in use that no listed process explains: other containers, other users of a vGPU, Windows' desktop."""
        return max(0, self.used - sum(self.held_by(holder) for holder in self.holders))

    def held_by(self, holder: Holder) -> int:
        """Return what is known of a holder's memory: the driver's figure, else what its torch says that it reserved."""
        return holder.used if holder.used is not None else sum(one.reserved for one in self.torch_of(holder))

    def torch_of(self, holder: Holder) -> tuple[TorchDevice, ...]:
        """Return torch's counters of an observed holder for this GPU, whatever number the process has for it."""
        torch = holder.observed.torch if holder.observed else None
        return tuple(one for one in torch.devices if _is_same(self, one)) if torch else ()


def _is_same(device: Device, one: TorchDevice) -> bool:
    """NVML writes ``GPU-`` before the identifier that torch gives."""
    if device.uuid and one.uuid:
        return device.uuid.removeprefix("GPU-") == one.uuid.removeprefix("GPU-")
    return device.index == one.index


def devices() -> tuple[Device, ...]:
    """Return the GPUs with their holders; empty where there is none or the driver does not answer."""
    found: list[Device] = []

    def read() -> None:
        found.extend(_through_nvml() or _through_smi())

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(NVML_SECONDS + 10)
    return with_observed(tuple(found), tuple(living(folder())) if found else ())


def with_observed(found: tuple[Device, ...], answers: tuple[Observed, ...]) -> tuple[Device, ...]:
    """Return the GPUs with the observed processes that the driver did not list: in a container it knows only the host's numbers."""
    listed = {holder.pid for device in found for holder in device.holders if holder.command is not None}
    missing = [
        Holder(one.pid, None, user_of(one.pid), command_of(one.pid), None, one) for one in answers if one.pid not in listed
    ]
    return tuple(
        replace(device, holders=(*device.holders, *(one for one in missing if device.torch_of(one)))) for device in found
    )


def _through_nvml() -> list[Device]:
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no bindings: nvidia-smi is asked instead
        return []
    try:
        count = pynvml.nvmlDeviceGetCount()
        return [_device(pynvml, index, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in range(count)]
    except pynvml.NVMLError:
        return []
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _device(pynvml: Any, index: int, handle: Any) -> Device:
    memory, reserved = pynvml.nvmlDeviceGetMemoryInfo(handle), None
    with suppress(Exception):  # bindings or drivers before 510 have no second version
        second = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        memory, reserved = second, int(second.reserved)
    uuid = None
    with suppress(Exception):
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    return Device(
        index,
        _text(pynvml.nvmlDeviceGetName(handle)),
        int(memory.total),
        int(memory.used),
        int(memory.free),
        reserved,
        tuple(sorted(_holders(pynvml, handle), key=lambda holder: -(holder.used or 0))),
        uuid=uuid,
    )


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _holders(pynvml: Any, handle: Any) -> Iterator[Holder]:
    seen: set[int] = set()
    for function in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        processes: list[Any] = []
        with suppress(Exception):  # not supported on this device, or not permitted
            processes = getattr(pynvml, function)(handle)
        for process in processes:
            if process.pid not in seen:
                seen.add(process.pid)
                yield holder(int(process.pid), process.usedGpuMemory)


def _through_smi() -> list[Device]:
    from provisioner.diagnosing.child import surroundings

    rows, processes = surroundings.gpus(), surroundings.gpu_processes()
    found = []
    for index, row in enumerate(rows):
        total, used, free = (_mib(row.get(f"memory.{name}", "")) for name in ("total", "used", "free"))
        if total is not None and used is not None:
            own = [one for one in processes if one["gpu"] == row.get("pci.bus_id", one["gpu"])]
            held = tuple(holder(int(one["pid"]), _mib(one["used_mib"])) for one in own if one["pid"].isdigit())
            found.append(Device(index, row["name"], total, used, free or total - used, None, held, "nvidia-smi"))
    return found


def _mib(text: str) -> int | None:
    return int(text) * 2**20 if text.isdigit() else None


def holder(pid: int, used: int | None) -> Holder:
    """Return what can be known here about a process that holds memory."""
    where, variables = observing(pid)
    observed = ask(pid, where)
    silent = observed is None and is_observed(pid, where)
    return Holder(pid, used, user_of(pid), command_of(pid), variables, observed, silent)


def observing(pid: int) -> tuple[Path, dict[str, str] | None]:
    """Return the directory in which a process would have its socket, and its allocator variables (None where not readable)."""
    environ = environ_of(pid)
    if environ is None:
        return folder(), None
    where = Path(environ[VARIABLE]) if environ.get(VARIABLE, "").startswith("/") else folder()
    return where, {name: value for name, value in environ.items() if name.endswith("ALLOC_CONF")}


def environ_of(pid: int) -> dict[str, str] | None:
    """Return the variables a process was started with; None where it is gone, another user's, or in another container."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    pairs = (entry.partition("=") for entry in raw.decode("utf-8", "replace").split("\0"))
    return {name: value for name, separator, value in pairs if separator}


def command_of(pid: int) -> str | None:
    """Return a process's command line, shortened; None where it cannot be seen."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return raw.decode("utf-8", "replace").replace("\0", " ").strip()[:COMMAND_LENGTH] or None


def user_of(pid: int) -> str | None:
    """Return the name of the user whose process it is; the number where it has no name here."""
    import pwd

    try:
        number = os.stat(f"/proc/{pid}").st_uid  # noqa: PTH116 - one call, no object
    except OSError:
        return None
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)
