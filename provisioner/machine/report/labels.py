"""Lines of a label and a value that no reader of its own takes: issue forms, and the reports of DeepSpeed, xformers, detectron2, ComfyUI.

A GPU counts only where the value begins with a brand and names a model of the table of GPUs: labels are anybody's, models are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.gpu_names import capability_of
from provisioner.machine.report.torch_text import torch_claims
from provisioner.machine.report.versions import DRIVER, VERSION, dotted_cuda

_GPU = re.compile(
    r"^\s*(?:[-*•+]\s+)?(?:\*\*)?(?:GPUs?(?:[ _](?:model|name|type|info|card|device))?|gpu\.name|Graphics [Cc]ard|Video [Cc]ard|显卡(?:型号)?|GPU ?型号|"
    r"Model|Device(?: [Nn]ame)?|Name(?=:?(?:\*\*)?:? cuda:\d))(?:\*\*)?\s*[:=](?:\*\*)?\s*(?:cuda:\d+\s+)?(?P<value>\S.*)$"
)
_COUNT = re.compile(r"^(?:(?P<before>\d{1,2})\s?[x×*]\s*)?(?P<name>.+?)(?:\s+[x×*]\s?(?P<after>\d{1,2}))?$")
_NAME_END = re.compile(r"\s*(?:[(,;|/]| : | - |\bwith\b|\bdriver\b).*$", re.IGNORECASE)
_BRAND = re.compile(r"^(?:NVIDIA|Tesla|GeForce|Quadro|TITAN|RTX|GTX)\b", re.IGNORECASE)
_ON_ARM = re.compile(r"\b(?:Jetson|Orin|Xavier|Thor|GH200|GB200|GB300|GB10)\b")
"""NVIDIA's modules whose GPU is soldered to an Arm processor: Jetson (Tegra), Grace Hopper and Grace Blackwell, DGX Spark."""

_LSPCI = re.compile(r"\bNVIDIA Corporation [A-Z]{2}\d{2,3}\w* \[([^\]\n]{4,60})\]")
_BARE = re.compile(r"^(?:NVIDIA|Tesla|Quadro|GeForce) [A-Z][\w -]{1,50}(?: \([\d.]+\))?$")
"""What ``nvidia-smi --query-gpu=name --format=csv,noheader`` prints of a device, and nothing else."""

_DETECTRON_GPU = re.compile(
    r"^GPU (\d+(?:,\d+)*)\s{2,}((?:NVIDIA|Tesla|GeForce|Quadro|TITAN|GRID|A\d|H\d)\S*(?: \S+)*?)(?: \(arch=(\d{1,2}\.\d)\))?$"
)
_DETECTRON_PYTHON = re.compile(r"^Python\s{2,}(\d\.\d+\.\d+)\S* [(|]")
_DETECTRON_DRIVER = re.compile(rf"^Driver version\s{{2,}}({DRIVER})$")
_NVCC = re.compile(
    r"^\s*(?:[-*•+]\s+)?(?:\*\*)?(?:NVCC|nvcc)(?: [Vv]ersion)?(?:\*\*)?(?:\s*[:=]|\s\.{3,})\s*v?(\d+\.\d+(?:\.\d+)?)\b"
)
_TORCH = re.compile(rf"^(?:torch version \.{{3,}}|pytorch\.version:)\s*({VERSION})")
_CUDA = re.compile(
    r"^(?:torch cuda version \.{3,}|CUDA Runtime Version \(PyTorch\):|CUDA \(PyTorch\):|CUDA runtime used by PyTorch:|\s*- CUDA Runtime)\s*(\d+\.\d+)\b"
)
_BITSANDBYTES = re.compile(r"PyTorch settings found: CUDA_VERSION=(\d{2,3})\b")
_FACTS = (
    ("software.nvcc", _NVCC),
    ("software.torch_cuda", _CUDA),
    ("software.python", _DETECTRON_PYTHON),
    ("driver.version", _DETECTRON_DRIVER),
)
_CAPABILITY = re.compile(r"^\s*(?:[-*•+]\s+)?(?:gpu\.compute_capability|Compute [Cc]apability)\s*[:=]\s*(\d{1,2}\.\d)\b")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of each labelled line, the devices last."""
    gpus: list[Gpu] = []
    bare: list[Gpu] = []
    listed: list[Gpu] = []
    named: set[str | None] = set()
    before = bare_line = -1
    capability: str | None = None
    for number, line in enumerate(report.lines):
        if len(line) > 300:
            continue
        for fact, pattern in _FACTS:
            if match := pattern.match(line):
                yield Claim(fact, match[1], line.strip())
        if match := _TORCH.match(line):
            yield from torch_claims(match[1], line)
        if "CUDA_VERSION=" in line and (match := _BITSANDBYTES.search(line)):
            yield Claim("software.torch_cuda", dotted_cuda(match[1]), line.strip())
        if match := _CAPABILITY.match(line):
            capability = capability or match[1]
        if match := _DETECTRON_GPU.match(line):
            gpus += [Gpu(name=match[2], compute_capability=match[3], source="report")] * len(match[1].split(","))
        elif "NVIDIA Corporation" in line and (match := _LSPCI.search(line)):
            listed += _devices(match[1])
        elif match := _GPU.match(line):
            found = _devices(match["value"])
            if number > before + 1:  # a program repeats its device later on; a list of equal devices stands together
                named = {gpu.name for gpu in gpus}
            gpus += [gpu for gpu in found if gpu.name not in named]
            before = number
        elif _BARE.match(line) and (not bare or number == bare_line + 1):
            bare += _devices(line)
            bare_line = number
    gpus = gpus or bare or listed
    if gpus:
        if capability and len({gpu.name for gpu in gpus}) == 1:
            gpus = [Gpu(name=gpu.name, compute_capability=gpu.compute_capability or capability, source="report") for gpu in gpus]
        yield Claim("gpus", tuple(gpus), "a line that names the GPU")
        if all(_ON_ARM.search(gpu.name or "") for gpu in gpus):
            yield Claim("platform.machine", "aarch64", f"{gpus[0].name} is part of an Arm module")


def _devices(value: str) -> list[Gpu]:
    match = _COUNT.match(_NAME_END.sub("", value.strip().strip("*`")))
    if match is None:
        return []
    name = match["name"].strip()
    if not _BRAND.match(name) or len(name) > 60 or capability_of(name) is None:
        return []
    return [Gpu(name=name, source="report")] * int(match["before"] or match["after"] or 1)
