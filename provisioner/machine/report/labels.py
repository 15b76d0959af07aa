"""Lines of a label and a value that no reader of its own takes: issue forms, and the reports of DeepSpeed, xformers, detectron2, ComfyUI.

A GPU counts only where the value begins with a brand and names a model of the table of GPUs: labels are anybody's, models are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.gpu_names import capability_of
from provisioner.machine.report.torch_text import torch_claims
from provisioner.machine.report.versions import DRIVER, VERSION, dotted_cuda

SHORTEST, LONGEST = 8, 300
"""Characters of the shortest and the longest line that may be a label and its value: ``nvcc=9.0`` is the shortest that says anything."""

_GPU = re.compile(
    r"^\s*(?:[-*•+]\s+)?(?:\*\*)?(?:GPUs?(?:[ _](?:model|name|type|info|card|device))?|gpu\.name|Graphics [Cc]ard|Video [Cc]ard|显卡(?:型号)?|GPU ?型号|"
    r"Model|[Dd]evice(?: ?[Nn]ame)?|Name(?=:?(?:\*\*)?:? cuda:\d))(?:\*\*)?\s*[:=](?:\*\*)?\s*(?:cuda:\d+\s+)?(?P<value>\S.*)$"
)
_COUNT = re.compile(r"^(?:(?P<before>\d{1,2})\s?[x×*]\s*)?(?P<name>.+?)(?:\s+[x×*]\s?(?P<after>\d{1,2}))?$")
_NAME_END = re.compile(r"\s*(?:[(,;|/]| : | - |\bwith\b|\bdriver\b).*$", re.IGNORECASE)
_BRAND = re.compile(r"^(?:NVIDIA|Tesla|GeForce|Quadro|TITAN|RTX|GTX)\b", re.IGNORECASE)
_ON_ARM = re.compile(r"\b(?:Jetson|Orin|Xavier|Thor|GH200|GB200|GB300|GB10)\b")
"""NVIDIA's modules whose GPU is soldered to an Arm processor: Jetson (Tegra), Grace Hopper and Grace Blackwell, DGX Spark."""

_LSPCI = re.compile(r"\bNVIDIA Corporation [A-Z]{2}\d{2,3}\w* \[([^\]\n]{4,60})\]")
_REFUSED = re.compile(r"\bYour (\S.{2,50}?) GPU has compute capability (\d{1,2}\.\d)\b")
"""vLLM's refusal of bfloat16, which each worker repeats."""

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
_FLASH_ATTN = re.compile(r"^\s*(?:[-*•+]\s+)?[Ff]lash ?[Aa]ttention(?: [Vv]ersion)?\s*[:=]\s*v?(\d+\.\d+\.\d+(?:\.?post\d+)?)\b")
_FACTS = (
    ("software.nvcc", _NVCC),
    ("software.flash_attn", _FLASH_ATTN),
    ("software.torch_cuda", _CUDA),
    ("software.python", _DETECTRON_PYTHON),
    ("driver.version", _DETECTRON_DRIVER),
)
_CAPABILITY = re.compile(r"^\s*(?:[-*•+]\s+)?(?:gpu\.compute_capability|Compute [Cc]apability)\s*[:=]\s*(\d{1,2}\.\d)\b")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of each labelled line, the devices last."""
    named = _Named()
    for number, line in enumerate(report.lines):
        if not SHORTEST <= len(line) <= LONGEST:
            continue
        for fact, pattern in _FACTS:
            if match := pattern.match(line):
                yield Claim(fact, match[1], line.strip())
        if match := _TORCH.match(line):
            yield from torch_claims(match[1], line)
        if "CUDA_VERSION=" in line and (match := _BITSANDBYTES.search(line)):
            yield Claim("software.torch_cuda", dotted_cuda(match[1]), line.strip())
        named.see(number, line)
    yield from named.claims()


@dataclass
class _Named:
    """The devices that lines name: labelled, alone on their line, or in passing; the first kind that there is counts."""

    labelled: list[Gpu] = field(default_factory=list)
    alone: list[Gpu] = field(default_factory=list)
    passing: list[Gpu] = field(default_factory=list)
    capability: str | None = None
    _earlier: set[str | None] = field(default_factory=set)
    _labelled_line: int = -1
    _alone_line: int = -1

    def see(self, number: int, line: str) -> None:
        """Take up what the line of this number names."""
        if match := _CAPABILITY.match(line):
            self.capability = self.capability or match[1]
        if match := _DETECTRON_GPU.match(line):
            gpu = Gpu(name=match[2], compute_capability=match[3], source="report")
            self.labelled += [gpu] * len(match[1].split(","))
        elif "NVIDIA Corporation" in line and (match := _LSPCI.search(line)):
            self.passing += _devices(match[1])
        elif "has compute capability" in line and (match := _REFUSED.search(line)):
            if match[1] not in {gpu.name for gpu in self.passing}:
                self.passing += [Gpu(name=match[1], compute_capability=match[2], source="report")]
        elif match := _GPU.match(line):
            self._label(number, _devices(match["value"]))
        elif _BARE.match(line) and (not self.alone or number == self._alone_line + 1):
            self.alone += _devices(line)
            self._alone_line = number

    def _label(self, number: int, gpus: list[Gpu]) -> None:
        """A program repeats its device later on; a list of equal devices stands together."""
        if number > self._labelled_line + 1:
            self._earlier = {gpu.name for gpu in self.labelled}
        self.labelled += [gpu for gpu in gpus if gpu.name not in self._earlier]
        self._labelled_line = number

    def claims(self) -> Iterator[Claim]:
        """Yield the devices, with the capability that is stated of the only kind, and the processor that they are soldered to."""
        gpus = self.labelled or self.alone or self.passing
        if not gpus:
            return
        if self.capability and len({gpu.name for gpu in gpus}) == 1:
            gpus = [replace(gpu, compute_capability=gpu.compute_capability or self.capability) for gpu in gpus]
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
