"""``python -m sglang.check_env``: short labels, the compiler line of nvcc, and the hypervisor of lscpu."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.torch_text import torch_claims
from provisioner.machine.report.versions import DRIVER, VERSION

_FIELD = re.compile(
    r"^\s*(Python|CUDA available|ROCM available|NVCC|CUDA Driver Version|ROCM Driver Version|PyTorch|Hypervisor vendor|HIPCC)\s*:\s*(.*?)\s*$"
)


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of each labelled line, and WSL 2 where a Windows driver serves a Linux Python in Microsoft's hypervisor."""
    found: dict[str, str] = {}
    for line in report.lines:
        if ":" in line and (match := _FIELD.match(line)) and match[1] not in found:
            found[match[1]] = match[2]
            yield from _claims(match[1], match[2], line.strip())
    driver, python = found.get("CUDA Driver Version", ""), found.get("Python", "")
    if found.get("Hypervisor vendor") == "Microsoft" and re.fullmatch(r"\d{3}\.\d{2}", driver) and "[GCC" in python:
        yield Claim("platform.wsl", "2", f"CUDA Driver Version: {driver}, Hypervisor vendor: Microsoft")


def _claims(label: str, value: str, line: str) -> Iterator[Claim]:
    if label == "Python" and (match := re.match(r"(\d+\.\d+\.\d+) [(|]", value)):
        yield Claim("software.python", match[1], line)
    elif label == "CUDA available" and value in ("True", "False"):
        yield Claim("signal.cuda_available", value == "True", line)
    elif label == "ROCM available" and value == "True":
        yield Claim("signal.rocm", "ROCm", line)
    elif label == "NVCC" and (match := re.search(r"V(\d+\.\d+\.\d+)", value)):
        yield Claim("software.nvcc", match[1], line)
    elif label == "CUDA Driver Version" and (match := re.match(rf"{DRIVER}", value)):
        yield Claim("driver.version", match[0], line)
    elif label == "PyTorch" and (match := re.match(rf"{VERSION}", value)):
        yield from torch_claims(value.split()[0], line)
