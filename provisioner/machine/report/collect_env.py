"""``python -m torch.utils.collect_env``, of every PyTorch since 1.0, and vLLM's copy with its padded labels."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER, VERSION, cuda_of_torch, is_rocm

_FIELD = re.compile(
    r"^\s*(?:[*-]\s+)?(PyTorch version|CUDA used to build PyTorch|ROCM used to build PyTorch|OS|Libc version|Python version|Python platform|"
    r"Is CUDA available|CUDA runtime version|GPU models and configuration|Nvidia driver version|HIP runtime version)\s*:\s*(.*?)\s*$"
)
_ABSENT = ("could not collect", "n/a", "none", "no cuda", "")
_AMD = re.compile(r"\b(AMD|Radeon|gfx\d{3,4})\b", re.IGNORECASE)
_OLD_PYTHON_GLIBC = (3, 8)
"""Up to Python 3.8, ``platform.platform()`` names the glibc that the interpreter was linked for, not the one that runs."""

_OLD_PYTHON_LIBC = (3, 7)
"""Up to Python 3.7 ``platform.libc_ver()``, which collect_env prints, reads that number too (the docs of Python 3.8's ``platform``)."""

_DISTRIBUTION_GLIBC = {
    "Ubuntu 16.04": "2.23", "Ubuntu 18.04": "2.27", "Ubuntu 20.04": "2.31", "Ubuntu 22.04": "2.35", "Ubuntu 24.04": "2.39",
    "Debian GNU/Linux 9": "2.24", "Debian GNU/Linux 10": "2.28", "Debian GNU/Linux 11": "2.31", "CentOS Linux 7": "2.17",
    "CentOS Linux 8": "2.28",
}  # fmt: skip
"""The glibc of the distributions that old Pythons ran on, as each has shipped it; used only to see that a number is not theirs."""


def read(report: CleanText) -> Iterator[Claim]:
    """Yield the claims of each labelled line."""
    if "pytorch version" not in report.lower and "gpu models and configuration" not in report.lower:
        return
    found: dict[str, str] = {}
    for line in report.lines:
        if ":" not in line or not (match := _FIELD.match(line)):
            continue
        label, value = match[1], match[2]
        if label in found:
            continue
        found[label] = value
        yield from _FIELDS.get(label, _nothing)(value, line.strip())
    yield from _libc(found)
    yield from platform_claims(found.get("Python platform", ""), found.get("Python version", ""))
    if not found.get("Python platform"):
        yield from _without_platform(found)
    if found.get("Is CUDA available") == "False" and found.get("GPU models and configuration") == "Could not collect":
        yield Claim("signal.no_gpu", True, "Is CUDA available: False, GPU models and configuration: Could not collect")


def _nothing(value: str, line: str) -> Iterator[Claim]:
    return iter(())


def _absent(value: str) -> bool:
    return value.lower() in _ABSENT


def _torch(value: str, line: str) -> Iterator[Claim]:
    if match := re.match(rf"{VERSION}", value):
        version = value.split()[0]
        yield Claim("software.torch", version if version.startswith(match[0]) else match[0], line)
        if cuda := cuda_of_torch(version):
            yield Claim("software.torch_cuda", cuda, line)
        if is_rocm(version):
            yield Claim("signal.rocm", version, line)


def _torch_cuda(value: str, line: str) -> Iterator[Claim]:
    if match := re.match(r"\d+\.\d+(?:\.\d+)?", value):
        yield Claim("software.torch_cuda", match[0], line)
    elif value.lower() in ("none", "n/a"):
        yield Claim("software.torch_cuda", None, line)
        yield Claim("signal.cpu_torch", True, line)


def _rocm(value: str, line: str) -> Iterator[Claim]:
    if re.match(r"\d+\.", value):
        yield Claim("signal.rocm", value, line)


def _python(value: str, line: str) -> Iterator[Claim]:
    if match := re.match(r"\d+\.\d+(?:\.\d+)?(?:(?:a|b|rc)\d+)?", value):
        yield Claim("software.python", match[0], line)


def _os(value: str, line: str) -> Iterator[Claim]:
    if _absent(value):
        return
    yield Claim("platform.os", value, line)
    if match := re.search(r"\((x86_64|aarch64|arm64|ppc64le|s390x|riscv64|i686)\)$", value):
        yield Claim("platform.machine", match[1], line)
    system = "windows" if "Windows" in value else "darwin" if value.lower().startswith(("mac", "darwin")) else "linux"
    yield Claim("platform.system", system, line)


def _libc(found: dict[str, str]) -> Iterator[Claim]:
    value = found.get("Libc version", "")
    line = f"Libc version: {value}"
    if (match := re.match(r"glibc-(\d+\.\d+)$", value)) and not _is_of_the_interpreter(match[1], found):
        yield Claim("platform.glibc", match[1], line)
    if match := re.match(r"musl-(\d+\.\d+)", value):
        yield Claim("platform.musl", match[1], line)


def _is_of_the_interpreter(glibc: str, found: dict[str, str]) -> bool:
    """Say whether an old Python printed the glibc that it was linked for: another one than the distribution's own."""
    python = re.match(r"(\d+)\.(\d+)", found.get("Python version", ""))
    if python is None or (int(python[1]), int(python[2])) > _OLD_PYTHON_LIBC:
        return False
    system = found.get("OS", "")
    return any(system.startswith(name) and glibc != own for name, own in _DISTRIBUTION_GLIBC.items())


def _cuda_available(value: str, line: str) -> Iterator[Claim]:
    if value.lower() in ("true", "yes", "false", "no"):
        yield Claim("signal.cuda_available", value.lower() in ("true", "yes"), line)


def _nvcc(value: str, line: str) -> Iterator[Claim]:
    if match := re.match(r"\d+\.\d+(?:\.\d+)?", value):
        yield Claim("software.nvcc", match[0], line)


def _models(value: str, line: str) -> Iterator[Claim]:
    if value.lower() == "no cuda":
        yield Claim("signal.no_gpu", True, line)
    elif _AMD.search(value):
        yield Claim("signal.rocm", value, line)
    elif not _absent(value) and not value.startswith("GPU "):
        yield Claim("signal.unnumbered_gpu", value, line)


def _driver(value: str, line: str) -> Iterator[Claim]:
    if match := re.match(rf"{DRIVER}", value):
        yield Claim("driver.version", match[0], line)


def _hip(value: str, line: str) -> Iterator[Claim]:
    if re.match(r"\d+\.", value):
        yield Claim("signal.rocm", value, line)


_FIELDS = {
    "PyTorch version": _torch,
    "CUDA used to build PyTorch": _torch_cuda,
    "ROCM used to build PyTorch": _rocm,
    "OS": _os,
    "Python version": _python,
    "Is CUDA available": _cuda_available,
    "CUDA runtime version": _nvcc,
    "GPU models and configuration": _models,
    "Nvidia driver version": _driver,
    "HIP runtime version": _hip,
}


def platform_claims(platform: str, python: str) -> Iterator[Claim]:
    """Yield what ``platform.platform()`` states, printed by the Python of version ``python``."""
    if match := re.match(r"Linux-(\S+?)-(x86_64|aarch64|ppc64le)(?:-with-glibc(\d+\.\d+))?", platform):
        yield Claim("platform.kernel", match[1], platform)
        yield Claim("platform.machine", match[2], platform)
        yield Claim("platform.system", "linux", platform)
        if match[3] and _glibc_is_real(python):
            yield Claim("platform.glibc", match[3], platform)
    if "microsoft" in platform.lower():
        yield Claim("platform.wsl", "1" if re.search(r"Linux-4\.4\.\d+.*Microsoft", platform) else "2", platform)
    elif platform.split("-")[0] in ("Linux", "Windows", "macOS", "Darwin"):
        yield Claim("platform.wsl", "no", platform)


def _without_platform(found: dict[str, str]) -> Iterator[Claim]:
    """The oldest versions print no platform string; the driver's number tells Linux from Windows."""
    system = found.get("OS", "")
    if not _absent(system) and ("Windows" in system or _before_wsl(found.get("Nvidia driver version", ""))):
        yield Claim("platform.wsl", "no", system)


def _glibc_is_real(python: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)", python)
    return match is not None and (int(match[1]), int(match[2])) > _OLD_PYTHON_GLIBC


def _before_wsl(driver: str) -> bool:
    """True for a Linux driver number (three parts) or one older than any that served WSL 2 (455, 2020)."""
    parts = driver.split(".")
    return bool(re.fullmatch(DRIVER, driver)) and (len(parts) > 2 or int(parts[0]) < 455)
