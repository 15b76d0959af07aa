"""``nvidia-smi --query-gpu=… --format=csv``, with or without its header: a field is known by its shape."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER

_HEADER = re.compile(r"\b(compute_cap|memory\.total \[MiB\]|driver_version)\b|^(index, )?name(,|$)")
_BRAND = re.compile(r"^(?:NVIDIA|Tesla|GeForce|Quadro|GRID|TITAN|RTX|Orin)\b[\w ().+/-]*$", re.IGNORECASE)
_MEMORY = re.compile(r"^(\d{3,7}) ?(?:MiB)?$")
_COMMAND = re.compile(r"--query-gpu[= ]([\w.,]+)")
_OPTION = re.compile(r"\[\w+\]$")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield driver and devices of the rows; a row needs a name of NVIDIA's and one further typed field."""
    gpus: list[Gpu] = []
    driver: str | None = None
    columns: list[str] = []
    single = False
    for line in report.lines:
        if "--query-gpu" in line and (match := _COMMAND.search(line)):
            columns = match[1].strip(",").split(",")
            single = columns == ["name"]
            continue
        if single and line.strip() != "name":
            single = bool(_BRAND.match(line.strip()))
            if single:
                gpus.append(Gpu(name=line.strip(), source="report"))
            continue
        if "," not in line or len(line) > 400:
            continue
        cells = [cell.strip() for cell in line.split(",")]
        if any(_HEADER.search(cell) for cell in cells) and not any(_BRAND.match(cell) for cell in cells):
            columns = [_OPTION.sub("", cell).strip() for cell in cells]
        elif row := _row(cells, columns):
            gpus.append(row[0])
            driver = driver or row[1]
    if gpus:
        yield Claim("gpus", tuple(gpus), "nvidia-smi --query-gpu")
    if driver:
        yield Claim("driver.version", driver, "nvidia-smi --query-gpu")


def _row(cells: list[str], columns: list[str]) -> tuple[Gpu, str | None] | None:
    name = next((cell for cell in cells if _BRAND.match(cell)), None)
    if name is None:
        return None
    named = dict(zip(columns, cells, strict=False)) if len(columns) == len(cells) else {}
    memory = named.get("memory.total") or next((cell for cell in cells if cell.endswith("MiB")), "")
    capability = named.get("compute_cap") or next((cell for cell in cells if re.fullmatch(r"\d{1,2}\.\d", cell)), "")
    driver = next((cell for cell in cells if re.fullmatch(DRIVER, cell)), None)
    size = _MEMORY.match(memory)
    if not (size or driver or re.fullmatch(r"\d{1,2}\.\d", capability)):
        return None
    gpu = Gpu(
        name=name,
        compute_capability=capability if re.fullmatch(r"\d{1,2}\.\d", capability) else None,
        memory_mib=int(size[1]) if size else None,
        source="report",
    )
    return gpu, driver
