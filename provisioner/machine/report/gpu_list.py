"""Numbered lists of devices: ``nvidia-smi -L``, collect_env, and sglang's ``GPU 0,1,3: …`` with its compute capabilities."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText

_GPU = re.compile(r"(?:^|configuration\s*:|\[\d+\])\s*GPU[ ]?#?(\d+(?:\s*,\s*\d+)*)\s*(Compute Capability)?\s*:\s*(\S.*?)\s*$")
_UUID = re.compile(r"\s*\(UUID:?.*$|\s*\(UUID.*?\)")
_MIG = re.compile(r"^\s*MIG \S+\s+Device\s+\d+\s*:")
_NAME = re.compile(r"[A-Za-z]")
_NOT_A_NAME = re.compile(
    r"\b(MiB|GiB|GB|usage|memory|util|free|used|total|error|failed|temperature|process)\b|%|=", re.IGNORECASE
)
_AMD = re.compile(r"^(AMD|Radeon|Advanced Micro)", re.IGNORECASE)


def read(report: CleanText) -> Iterator[Claim]:
    """Yield one ``gpus`` claim for all devices listed; the first statement about an index counts."""
    names: dict[int, str] = {}
    capabilities: dict[int, str] = {}
    partitioned: set[int] = set()
    last = 0
    for line in report.lines:
        if "GPU" not in line and "MIG" not in line:
            continue
        if match := _GPU.search(line):
            indices = [int(index) for index in match[1].split(",")]
            _note(capabilities if match[2] else names, indices, match[3], bool(match[2]))
            last = indices[-1]
        elif _MIG.match(line):
            partitioned.add(last)
    if names:
        yield Claim("gpus", tuple(_gpu(names[i], capabilities.get(i), i in partitioned) for i in sorted(names)), "GPU list")
    if any(_AMD.match(name) for name in names.values()):
        yield Claim("signal.rocm", next(iter(names.values())), f"GPU 0: {names[min(names)]}")


def _note(into: dict[int, str], indices: list[int], value: str, is_capability: bool) -> None:
    if is_capability:
        match = re.match(r"\d{1,2}\.\d", value)
        value = match[0] if match else ""
    else:
        value = _UUID.sub("", value).strip()
        if not _NAME.search(value) or _NOT_A_NAME.search(value) or len(value) > 80:
            return
    for index in indices:
        if value and index < 1024:
            into.setdefault(index, value)


def _gpu(name: str, capability: str | None, partitioned: bool) -> Gpu:
    if _AMD.match(name):  # tools print gfx1100 as "11.0", which is no compute capability
        return Gpu(name=name, source="report", vendor="amd")
    partition = "mig" if partitioned else "vgpu" if re.search(r"-\d+[QCAB]$", name) else None
    return Gpu(name=name, compute_capability=capability, partition=partition, source="report")
