"""What nvidia-smi prints, read as facts: the CSV query and the plain table.

Every cell may be ``[N/A]``, ``ERR!`` or garbage, a row may be cut, the output may be huge: what does not look like the
fact is no fact, and nothing raises.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from provisioner.machine.facts import Driver, Fault, Gpu, Machine
from provisioner.machine.nvml import driver_version, is_vgpu_name

if TYPE_CHECKING:
    from provisioner.process import Result

MODERN = ("driver_version", "memory.total", "compute_cap", "mig.mode.current", "name")
OLD = ("driver_version", "memory.total", "name")
"""Fields of the query. ``compute_cap`` came with driver 470/510 and MIG with 450: an older program refuses the whole query."""

TEXT_LIMIT = 256 * 1024
"""Characters of output that are looked at; real output of 16 GPUs has 10 000."""

_HEADER = re.compile(r"(?:Driver|KMD) Version\s*:\s*(\S+)")
_CUDA = re.compile(r"CUDA (?:UMD )?Version\s*:\s*(\d{1,2}\.\d)\b")
_TABLE_GPU = re.compile(r"^\s*\|\s+(\d{1,3})\s+(\S.*?)\s+(?:On|Off|N/A|Enabled|Disabled)\s*\|")
_TABLE_MEMORY = re.compile(r"/\s*(\d{1,7})\s?MiB\s*\|")
_TABLE_MIG = re.compile(r"^\s*\|\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s+(\d{1,3})\s*\|\s*\d+\s?MiB\s*/\s*(\d{1,7})\s?MiB\s*\|")
_CAPABILITY = re.compile(r"[1-9]\d?\.\d", re.ASCII)
_COUNT = re.compile(r"(\d{1,8})(?:\s*MiB)?")

_FAULTS = (
    # (what nvidia-smi prints, fault code); wording from shared reports and the driver's README, 2026-11-24
    (re.compile(r"driver/library version mismatch", re.IGNORECASE), "driver-lib-mismatch"),
    (re.compile(r"couldn't communicate with the NVIDIA driver|driver is not loaded", re.IGNORECASE), "driver-not-running"),
    (re.compile(r"GPU is lost|has fallen off the bus|Unable to determine the device handle", re.IGNORECASE), "gpu-lost"),
    (re.compile(r"insufficient permissions", re.IGNORECASE), "cuda-unavailable"),
)


class Header(NamedTuple):
    """What the plain table's header states."""

    driver: str | None = None
    cuda: str | None = None


def read_outputs(queried: Result, plain: Result) -> Machine:
    """Return the facts in the outputs of the query and of the plain table; neither needs to be sound."""
    table = plain.out[:TEXT_LIMIT]
    drivers, gpus = read_query(queried.out[:TEXT_LIMIT])
    header = read_header(table)
    listed = read_table(table)
    faults = _faults_in(queried, plain)
    if not gpus:
        gpus = listed
    instances = mig_instances(table, gpus)
    driver = Driver(version=next(iter(drivers), None) or header.driver, cuda=header.cuda)
    return Machine(gpus=_with_instances(gpus, instances), driver=driver, faults=faults)


def read_query(text: str) -> tuple[list[str], tuple[Gpu, ...]]:
    """Return the driver versions and GPUs in CSV rows of `MODERN` or `OLD` fields; other rows are skipped."""
    rows = [row for line in text.splitlines() if (row := _read_row(line))]
    return [driver for driver, _ in rows if driver], tuple(gpu for _, gpu in rows)


def _read_row(line: str) -> tuple[str | None, Gpu] | None:
    """Return the driver version and GPU of a row; None unless it has a name, a version or a placeholder for it, and one number."""
    match [cell.strip() for cell in line.split(",", len(MODERN) - 1)]:
        case [version, memory, capability, mig, name]:
            pass
        case [version, memory, name]:
            capability, mig = "", ""
        case _:
            return None
    driver, size = driver_version(version), _number(memory)
    if not _is_name(name) or not (driver or (size and _is_absent(version))):
        return None
    gpu = Gpu(
        name=name,
        compute_capability=capability if _CAPABILITY.fullmatch(capability) else None,
        memory_mib=size or None,
        partition="mig" if mig.lower() == "enabled" else "vgpu" if is_vgpu_name(name) else None,
        source="nvidia-smi",
    )
    return driver, gpu


def read_header(text: str) -> Header:
    """Return driver and CUDA version from the plain table's header, in its old wording and in that of driver 610 on."""
    driver, cuda = _HEADER.search(text), _CUDA.search(text)
    return Header(driver_version(driver[1]) if driver else None, cuda[1] if cuda else None)


def read_table(text: str) -> tuple[Gpu, ...]:
    """Return the GPUs of the plain table: what is left when the query fails. Long names are cut there with ``...``."""
    gpus: list[Gpu] = []
    for line in text.splitlines():
        if line.lstrip().startswith("| Processes:"):
            break
        if (match := _TABLE_GPU.match(line)) and _is_name(match[2]):
            partition = "vgpu" if is_vgpu_name(match[2]) else None
            gpus.append(Gpu(name=match[2], partition=partition, source="nvidia-smi"))
        elif gpus and gpus[-1].memory_mib is None and (match := _TABLE_MEMORY.search(line)):
            gpus[-1] = replace(gpus[-1], memory_mib=int(match[1]) or None)
    return tuple(gpus)


def mig_instances(text: str, gpus: tuple[Gpu, ...]) -> dict[int, list[Gpu]]:
    """Return, by the index of their GPU, the MIG instances that the table lists with their own memory."""
    instances: dict[int, list[Gpu]] = {}
    for line in text.splitlines():
        if (match := _TABLE_MIG.match(line)) and int(match[1]) < len(gpus):
            parent = gpus[int(match[1])]
            name = f"{parent.name} MIG"
            slice_ = replace(parent, name=name, memory_mib=int(match[5]) or None, partition="mig")
            instances.setdefault(int(match[1]), []).append(slice_)
    return instances


def _with_instances(gpus: tuple[Gpu, ...], instances: dict[int, list[Gpu]]) -> tuple[Gpu, ...]:
    """Return the instances in place of their GPU; a GPU in MIG mode without any keeps its place, but not its memory."""
    whole = [replace(gpu, memory_mib=None) if gpu.partition == "mig" else gpu for gpu in gpus]
    return tuple(device for index, gpu in enumerate(whole) for device in instances.get(index, [gpu]))


def _faults_in(*results: Result) -> tuple[Fault, ...]:
    said = "\n".join((result.out + "\n" + result.err)[:TEXT_LIMIT] for result in results)
    faults: list[Fault] = []
    for pattern, code in _FAULTS:
        if match := pattern.search(said):
            start, end = said.rfind("\n", 0, match.start()) + 1, said.find("\n", match.end())
            line = said[start : end if end >= 0 else None].strip()
            faults.append(Fault(code, f"nvidia-smi: {line[:300]}"))
    return tuple(faults)


def _is_absent(cell: str) -> bool:
    return cell.startswith("[") or cell in ("N/A", "ERR!")


def _is_name(text: str) -> bool:
    """Say whether a cell can be a GPU's name: printable, of sane length, with a letter, not a placeholder."""
    return 2 <= len(text) <= 96 and text.isprintable() and any(letter.isalpha() for letter in text) and not _is_absent(text)


def _number(cell: str) -> int | None:
    match = _COUNT.fullmatch(cell)
    return int(match[1]) if match else None
