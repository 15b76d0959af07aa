"""``transformers-cli env``, ``accelerate env``, ``diffusers-cli env`` and LLaMA-Factory's: a list of ``- label: value``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.collect_env import platform_claims
from provisioner.machine.report.torch_text import torch_claims
from provisioner.machine.report.versions import VERSION

_FIELD = re.compile(
    r"^\s*[-*]\s*`?(Platform|Python version|PyTorch version(?: \(GPU\?\))?|GPU type|GPU number|GPU memory|Transformers version|TRL version|"
    r"Bitsandbytes version|`?transformers`? version|CUDA device\(s\)|Accelerator)`?\s*:\s*(.*?)\s*$",
    re.IGNORECASE,
)
_BRAND = re.compile(r"(NVIDIA|Tesla|GeForce|Quadro|TITAN)\b")
_PACKAGES = {"transformers version": "transformers", "trl version": "trl", "bitsandbytes version": "bitsandbytes"}


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of each labelled line; a GPU type stands for ``GPU number`` devices, one if that is not said."""
    if not any(word in report.lower for word in ("platform", "pytorch version", "gpu type", "cuda device(s)")):
        return
    found: dict[str, str] = {}
    for line in report.lines:
        if ":" in line and (match := _FIELD.match(line)):
            found.setdefault(match[1].lower().replace("`", ""), match[2])
    yield from platform_claims(found.get("platform", ""), found.get("python version", ""))
    yield from _torch(found.get("pytorch version (gpu?)") or found.get("pytorch version") or "")
    for label, package in _PACKAGES.items():
        if match := re.fullmatch(VERSION, found.get(label, "")):
            yield Claim(f"software.{package}", match[0], f"{label}: {match[0]}")
    listed = found.get("cuda device(s)") or found.get("accelerator") or ""  # TRL's, diffusers'
    if names := [name for part in listed.split(",") if _BRAND.match(name := part.strip())]:
        yield Claim("gpus", tuple(Gpu(name=name, source="report") for name in names), f"devices: {listed}")
    if _BRAND.match(name := found.get("gpu type", "")):
        count = int(found["gpu number"]) if re.fullmatch(r"[1-9]\d?", found.get("gpu number", "")) else 1
        yield Claim("gpus", (Gpu(name=name, source="report"),) * count, f"GPU type: {name}")


def _torch(value: str) -> Iterator[Claim]:
    match = re.match(rf"({VERSION})(?: \((\w+)\))?", value)
    if match is None:
        return
    yield from torch_claims(match[1], value)
    if match[2] in ("True", "False"):
        yield Claim("signal.cuda_available", match[2] == "True", value)
