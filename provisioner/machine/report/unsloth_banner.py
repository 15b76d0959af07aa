"""Unsloth's load banner: ``CUDA: 6.1`` is the compute capability, ``CUDA Toolkit: 12.4`` is torch's CUDA."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import VERSION, cuda_of_torch

_UNSLOTH = re.compile(r"==\(\(====\)\)==\s+Unsloth(?: (\d[\w.]*?):|: .* release (\d[\w.]*))")
_TRANSFORMERS = re.compile(r"Transformers[: =]+(\d[\w.]*?)\.?(?:\s|$)")
_DEVICE = re.compile(
    r"^\s*\\\\\s+/\|\s+(?:GPU: )?(?P<name>\S.*?)\. (?:Num GPUs = (?P<count>\d+)\. )?Max memory: (?P<memory>[\d.]+) GB\. Platform(?: ?=|:) (?P<os>\w+)"
)
_TORCH = re.compile(
    rf"[Tt]orch[: =]+(?P<torch>{VERSION})\.? CUDA[: =]+(?P<capability>\d+\.\d)\. CUDA Toolkit[: =]+(?P<cuda>\d+\.\d+)"
)
_TRITON = re.compile(r"Triton[: =]+(\d[\w.]*)")
_FA = re.compile(r"Xformers = (\d[\w.+]*?|None)\. FA2? = (True|False)")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of the banner's five lines."""
    if "Unsloth" not in report.text or "Max memory" not in report.text:
        return
    device: re.Match[str] | None = None
    capability: str | None = None
    for line in report.lines:
        if match := _UNSLOTH.search(line):
            yield Claim("software.unsloth", match[1] or match[2], line.strip())
            if match := _TRANSFORMERS.search(line):
                yield Claim("software.transformers", match[1], line.strip())
        elif match := _DEVICE.match(line):
            device = device or match
            yield Claim("platform.os", match["os"], line.strip())
            yield Claim("platform.system", match["os"].lower(), line.strip())
        elif match := _TORCH.search(line):
            capability = capability or match["capability"]
            yield Claim("software.torch", match["torch"], line.strip())
            yield Claim("software.torch_cuda", cuda_of_torch(match["torch"]) or match["cuda"], line.strip())
            if match := _TRITON.search(line):
                yield Claim("software.triton", match[1], line.strip())
        elif (match := _FA.search(line)) and match[1] != "None":
            yield Claim("software.xformers", match[1].rstrip("."), line.strip())
    if device is not None:
        gpu = Gpu(
            name=device["name"], compute_capability=capability, memory_mib=round(float(device["memory"]) * 1024), source="report"
        )
        yield Claim("gpus", (gpu,) * min(int(device["count"] or 1), 64), device[0].strip())
