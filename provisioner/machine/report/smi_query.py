"""``nvidia-smi -q`` (also ``-a``) and ``nvidia-smi --version``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER

_GPU = re.compile(r"^\s*GPU [0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d")
_FIELD = re.compile(r"^(\s*)(\S[^:]*?)\s*:\s*(.*?)\s*$")
_SECTION = re.compile(r"^\s*([A-Z][\w /.+-]*)$")
_WINDOWS_PROCESS = re.compile(r"^[A-Za-z]:\\")


@dataclass(slots=True)
class _Log:
    driver: str | None = None
    cuda: str | None = None
    gpus: list[dict[str, str]] = field(default_factory=list)
    model: str | None = None
    windows_process: bool = False
    persistence: str | None = None


def read(report: CleanText) -> Iterator[Claim]:
    """Yield driver, CUDA, devices, and Windows or WSL 2 where the driver model tells."""
    if "product name" not in report.lower and "driver version" not in report.lower:
        return
    log = _scan(report)
    if log.driver and re.fullmatch(DRIVER, log.driver):
        yield Claim("driver.version", log.driver, f"Driver Version: {log.driver}")
    if log.cuda and re.fullmatch(r"\d+\.\d+", log.cuda):
        yield Claim("driver.cuda", log.cuda, f"CUDA Version: {log.cuda}")
    if log.gpus:
        yield Claim("gpus", tuple(_gpu(found) for found in log.gpus), "nvidia-smi -q")
    yield from _host(log)


def _scan(report: CleanText) -> _Log:
    log, section = _Log(), ""
    for line in report.lines:
        if _GPU.match(line):
            log.gpus.append({})
            section = ""
        elif match := _FIELD.match(line):
            _take(log, section, match[2], match[3])
        elif match := _SECTION.match(line):
            section = match[1].strip()
    log.gpus = [found for found in log.gpus if found.get("name")]
    return log


def _take(log: _Log, section: str, label: str, value: str) -> None:
    first = value.split(" ", 1)[0]
    match label:
        case "Driver Version" | "DRIVER version" | "KMD Version" | "KMD version":
            log.driver = log.driver or first
        case "CUDA Version" | "CUDA UMD Version" | "CUDA version":
            log.cuda = log.cuda or first
        case "Product Name":
            if not log.gpus or "name" in log.gpus[-1]:
                log.gpus.append({})
            log.gpus[-1]["name"] = value
        case "Total" if section == "FB Memory Usage" and log.gpus:
            log.gpus[-1].setdefault("memory", first)
        case "Current" if section == "Driver Model":
            log.model = log.model or value
        case "Current" if section == "MIG Mode" and log.gpus:
            log.gpus[-1].setdefault("mig", value)
        case "Persistence Mode":
            log.persistence = log.persistence or value
        case "Name" if _WINDOWS_PROCESS.match(value):
            log.windows_process = True


def _gpu(found: dict[str, str]) -> Gpu:
    memory = found.get("memory", "")
    partition = "mig" if found.get("mig") == "Enabled" else "vgpu" if re.search(r"-\d+[QCAB]$", found["name"]) else None
    return Gpu(name=found["name"], memory_mib=int(memory) if memory.isdigit() else None, partition=partition, source="report")


def _host(log: _Log) -> Iterator[Claim]:
    """The WDDM driver model is Windows' own; a persistence mode beside it exists only in Linux, so that is WSL 2."""
    line = f"Driver Model: {log.model}"
    if log.model in ("WDDM", "MCDM", "TCC"):
        windows = log.windows_process or log.persistence not in ("Enabled", "Disabled")
        if windows:
            yield Claim("platform.os", f"Windows ({log.model})", line)
            yield Claim("platform.system", "windows", line)
        yield Claim("platform.wsl", "no" if windows else "2", line)
    elif log.model == "N/A":  # a Linux driver on Linux
        yield Claim("platform.wsl", "no", line)
        yield Claim("platform.system", "linux", line)
