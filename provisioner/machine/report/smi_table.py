"""The table of ``nvidia-smi``: with and without MIG column, with renamed header fields, indented or cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER

_HEADER = re.compile(
    r"NVIDIA-SMI[ :]+(?P<smi>[\d.]+)\s.*?(?:Driver|KMD) Version[ :]+(?P<driver>[\d.]+)(?:.*?CUDA (?:UMD |Driver )?Version[ :]+(?P<cuda>\S+))?"
)
_HEADER_END = re.compile(r"^[ |]*Driver Version[ :]+(?P<driver>[\d.]+)[ ,]+CUDA Version[ :]+(?P<cuda>\d+\.\d+)\b")
_DEVICE = re.compile(r"^\s*(\d{1,3})\s+(\S.*?)\s+(On|Off|N/A|WDDM|TCC|MCDM|Enabled|Disabled)\s*$")
_MEMORY = re.compile(r"(\d+)\s*MiB\s*/\s*(\d+)\s*MiB")


@dataclass(frozen=True, slots=True)
class _Row:
    gpu: Gpu
    mode: str


def read(report: CleanText) -> Iterator[Claim]:
    """Yield driver, CUDA (only a number: WSL may print ``ERR!``) and the devices of the first table."""
    if "nvidia-smi" not in report.lower and "mib" not in report.lower and "driver version" not in report.lower:
        return
    for line, after in zip(report.lines, (*report.lines[1:], ""), strict=True):
        if "NVIDIA-SMI" in line:
            wrapped = "Version" in line and (_HEADER.search(line) or {"cuda": None})["cuda"] is None and "CUDA" in line + after
            if match := _HEADER.search(f"{line} {after}" if wrapped and "NVIDIA-SMI" not in after else line):
                yield from _header(match, line.strip())
                break
        elif "Driver Version" in line and (match := _HEADER_END.match(line)) and re.fullmatch(DRIVER, match["driver"]):
            yield Claim("driver.version", match["driver"], line.strip())
            yield Claim("driver.cuda", match["cuda"], line.strip())
    rows = _rows(report)
    if rows:
        yield Claim("gpus", tuple(row.gpu for row in rows), "nvidia-smi table")
    if any(row.mode in ("WDDM", "TCC", "MCDM") for row in rows):  # only native Windows prints the driver model in this column
        yield Claim("platform.os", "Windows", "nvidia-smi: WDDM")
        yield Claim("platform.wsl", "no", "nvidia-smi: WDDM")
        yield Claim("platform.system", "windows", "nvidia-smi: WDDM")


def _header(match: re.Match[str], line: str) -> Iterator[Claim]:
    smi, driver, cuda = match["smi"], match["driver"], match["cuda"]
    if re.fullmatch(DRIVER, driver):
        yield Claim("driver.version", driver, line)
        if smi != driver and driver.count(".") == 1:  # the Linux tool of WSL over the driver of Windows
            yield Claim("platform.wsl", "2", line)
    if cuda and (number := re.match(r"\d+\.\d+", cuda)):
        yield Claim("driver.cuda", number[0], line)
    elif cuda and cuda.startswith("ERR"):
        yield Claim("signal.cuda_err", True, line)


def _rows(report: CleanText) -> list[_Row]:
    rows: dict[int, _Row] = {}
    current: int | None = None
    for line in report.lines:
        if "|" not in line:
            continue
        cells = line.strip().strip("|").split("|")
        if len(cells) < 2:
            continue
        if match := _DEVICE.match(cells[0]):
            index = int(match[1])
            if index in rows:  # the same table again, or a second one
                current = None
                continue
            current = index
            rows[index] = _Row(Gpu(name=match[2], source="report"), match[3])
        elif current is not None:
            rows[current] = _detail(rows[current], cells)
    return [rows[index] for index in sorted(rows)]


def _detail(row: _Row, cells: list[str]) -> _Row:
    """The second and third line of a device: memory, and whether MIG is enabled."""
    gpu = row.gpu
    if gpu.memory_mib is None and (match := _MEMORY.search(cells[1])):
        gpu = replace(gpu, memory_mib=int(match[2]))
    if len(cells) > 2 and cells[2].strip() == "Enabled":
        gpu = replace(gpu, partition="mig")
    return replace(row, gpu=gpu)
