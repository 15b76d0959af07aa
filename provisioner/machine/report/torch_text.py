"""What torch and builds against it say about torch itself: its version, its CUDA, and the GPU of its warnings."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import VERSION, cuda_of_torch, is_rocm

_ATTRIBUTE = re.compile(rf"torch\.__version__\s*[=:]+\s*'?({VERSION})")
_ASKED = re.compile(r"(?:^\s*(?:\S{0,12}>>>|In \[\d+\]:)|\bpython[\d.]* -c\b)(.*)")
_EXPRESSION = re.compile(r"torch\.(__version__|version\.cuda|cuda\.is_available\(\)|cuda\.get_device_name\(\d*\))")
_OUT = re.compile(r"^Out\[\d+\]: ")
_ANSWERS = {
    "__version__": re.compile(rf"^'?({VERSION})'?(?=\s|,|\)|$)"),
    "version.cuda": re.compile(r"^'?(\d+\.\d+|None)'?(?=\s|,|\)|$)"),
    "cuda.is_available()": re.compile(r"^(True|False)\b"),
    "cuda.get_device_name": re.compile(r"^'?((?:NVIDIA|Tesla|GeForce|Quadro|TITAN)\b[^'\n]{0,60}?)'?$"),
}
_VERSION_LINE = re.compile(
    rf"^\s*(?:[-*•+]\s*)?(?:\*\*)?(?:[Pp]y)?[Tt]orch(?: [Vv]ersion)?(?:\*\*)?\s*[:=]+(?:\*\*)?\s*`?({VERSION})`?(?:\s|,|$)"
)
_AVAILABLE = re.compile(
    r"torch\.cuda\.is_available\(\)\s*(?:[=:>]+\s*)?(True|False)?\s*$|CUDA (?:is )?available[?:]\s*(True|False)\s*$"
)
_CUDA_ATTRIBUTE = re.compile(r"torch\.version\.cuda\s*[=:]+\s*'?(\d+\.\d+)")
_GUESS = re.compile(r"flash_attn-(?P<version>[\d.]+(?:post\d+)?)\+cu(?P<cuda>\d{2,3})torch(?P<torch>\d+\.\d+)cxx11abi")
_LONE_WHEEL = re.compile(r"^\s*torch-(\d+\.\d+[\w.+%-]*?)-cp\d+-\S+\.whl\s*$")
_TOO_OLD = re.compile(r"NVIDIA driver on your system is too old \(found version (\d{4,5})\)")
_INCOMPATIBLE = re.compile(r"^\s*(\S.*?) with CUDA capability sm_(\d{2,3}) is not compatible with the current PyTorch")
_FOUND_GPU = re.compile(r"Found GPU\s?(\d+) (.+?) which is of (?:cuda|compute) capability (\d+\.\d)", re.IGNORECASE)
_TOO_OLD_GPU = re.compile(
    r"Found (\S.*?) which is too old to be supported by the triton GPU compiler.*?CUDA capability (\d+\.\d)", re.IGNORECASE
)
_BUILT_FOR = re.compile(rf"PyTorch {VERSION} with CUDA \d+ \(you have ({VERSION})\)")
_PROPERTIES = re.compile(r"_CudaDeviceProperties\(name='([^']+)', major=(\d+), minor=(\d+)(?:, total_memory=(\d+)MB)?")
_DEVICE_QUERY = re.compile(
    r"compute capability:\s*major=(\d+), minor=(\d+)|CUDA Capability Major/Minor version number:\s*(\d+\.\d)", re.IGNORECASE
)
_DEVICE = re.compile(r"^\s*(?:DEVICE|Device \d+:)\s+\"?([A-Za-z][^\"(]*?)\"?\s*(?:\(id=\d+\))?$")
_RUNTIME = re.compile(r"CUDA Driver Version / Runtime Version\s+(\d+\.\d+) / ")
PATIENCE = 2
"""Lines that may stand between a question asked of torch and its answer: warnings, as Python prints them (two lines)."""

_CUDA_13_RELEASE = (2, 9)
"""From torch 2.9 on there are CUDA 13 builds, and flash-attn's guess still says ``cu12`` for them (setup.py of 2.8.3)."""


def read(report: CleanText) -> Iterator[Claim]:
    """Yield claims about torch, then about the GPUs that its messages name."""
    yield from _versions(report)
    yield from _available(report)
    yield from _guess(report)
    if "too old" in report.text and (match := _TOO_OLD.search(report.text)):
        number = int(match[1])
        yield Claim("driver.cuda", f"{number // 1000}.{number % 1000 // 10}", match[0])
    if "Driver Version / Runtime" in report.text and (match := _RUNTIME.search(report.text)):
        yield Claim("driver.cuda", match[1], match[0])
    yield from _gpus(report)


def _versions(report: CleanText) -> Iterator[Claim]:
    waiting: list[str] = []
    patience = 0
    for line in report.lines:
        if waiting and line.strip():
            before = len(waiting)
            yield from _answers(waiting, line)
            patience -= len(waiting) == before
            if patience < 0:
                waiting.clear()
        if "torch." in line and (asked := _ASKED.search(line)):
            waiting = [
                expression.partition("(")[0] if "device" in expression else expression
                for expression in _EXPRESSION.findall(asked[1])
            ]
            patience = PATIENCE
        if "orch" in line:
            if (match := _ATTRIBUTE.search(line) or _VERSION_LINE.match(line)) or (match := _BUILT_FOR.search(line)):
                yield from torch_claims(match[1], line)
            elif match := _LONE_WHEEL.match(line):
                yield from torch_claims(match[1].replace("%2B", "+"), line)
            if match := _CUDA_ATTRIBUTE.search(line):
                yield Claim("software.torch_cuda", match[1], line.strip())


def _answers(waiting: list[str], line: str) -> Iterator[Claim]:
    """Take from ``line`` what answers the expressions asked for, in their order, and drop them from ``waiting``."""
    rest = _OUT.sub("", line.strip()).lstrip("(")
    while waiting:
        match = _ANSWERS[waiting[0]].match(rest)
        if match is None:
            break
        expression, answer = waiting.pop(0), match[1]
        rest = rest[match.end() :].lstrip(" ,")
        if expression == "__version__":
            yield from torch_claims(answer, line)
        elif expression == "version.cuda":
            yield Claim("software.torch_cuda", None if answer == "None" else answer, line.strip())
        elif expression == "cuda.is_available()":
            yield Claim("signal.cuda_available", answer == "True", f"torch.cuda.is_available() is {answer}")
        else:
            yield Claim("gpus", (Gpu(name=answer.strip(), source="report"),), line.strip())


def _available(report: CleanText) -> Iterator[Claim]:
    """torch's own answer, printed beside the question or on the line after it."""
    asked = False
    for line in report.lines:
        if asked and line.strip() in ("True", "False"):
            yield Claim("signal.cuda_available", line.strip() == "True", "torch.cuda.is_available() is " + line.strip())
        asked = False
        if "available" in line and (match := _AVAILABLE.search(line)):
            if answer := match[1] or match[2]:
                yield Claim("signal.cuda_available", answer == "True", line.strip())
            asked = answer is None


def torch_claims(version: str, line: str) -> Iterator[Claim]:
    """Yield what a torch version states: itself, its CUDA, ROCm, or a build for the CPU."""
    yield Claim("software.torch", version, line.strip())
    if cuda := cuda_of_torch(version):
        yield Claim("software.torch_cuda", cuda, line.strip())
    if is_rocm(version):
        yield Claim("signal.rocm", version, line.strip())
    if version.endswith("+cpu"):
        yield Claim("software.torch_cuda", None, line.strip())
        yield Claim("signal.cpu_torch", True, line.strip())


def _guess(report: CleanText) -> Iterator[Claim]:
    """flash-attn's setup names the torch it found in the wheel it looks for; its ``cu`` tag is only the major version."""
    previous = ""
    for line in report.lines:
        if (
            "flash_attn-" in line
            and ("Guessing wheel URL" in line or "Guessing wheel URL" in previous)
            and (match := _GUESS.search(line))
        ):
            yield Claim("software.torch", match["torch"], line.strip())
            major, minor = match["torch"].split(".")
            if (int(major), int(minor)) < _CUDA_13_RELEASE:
                yield Claim("software.torch_cuda", match["cuda"][:2], line.strip())
        if line.strip():
            previous = line


def _gpus(report: CleanText) -> Iterator[Claim]:
    found: dict[str, Gpu] = {}
    device: str | None = None
    for line in report.lines:
        if "apability" in line or "DeviceProperties" in line:
            for key, gpu in _named(line):
                found.setdefault(key, gpu)
            if device and (match := _DEVICE_QUERY.search(line)):
                found.setdefault(
                    device, Gpu(name=device, compute_capability=match[3] or f"{match[1]}.{match[2]}", source="report")
                )
        elif match := _DEVICE.match(line):
            device = match[1].strip()
    if found:
        yield Claim("gpus", tuple(found.values()), "torch's message")


def _named(line: str) -> Iterator[tuple[str, Gpu]]:
    if match := _INCOMPATIBLE.match(line):
        yield match[1], Gpu(name=match[1], compute_capability=f"{match[2][:-1]}.{match[2][-1]}", source="report")
    for match in _FOUND_GPU.finditer(line):
        yield f"GPU {match[1]}", Gpu(name=match[2], compute_capability=match[3], source="report")
    for match in _TOO_OLD_GPU.finditer(line):
        yield match[1], Gpu(name=match[1], compute_capability=match[2], source="report")
    for match in _PROPERTIES.finditer(line):
        memory = int(match[4]) if match[4] else None
        yield match[1], Gpu(name=match[1], compute_capability=f"{match[2]}.{match[3]}", memory_mib=memory, source="report")
