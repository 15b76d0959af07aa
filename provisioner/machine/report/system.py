"""The operating system: uname, os-release, lsb_release, systeminfo, and what paths and prompts give away."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER

_UNAME = re.compile(
    r"\bLinux (?:\S+ )?(\d+\.\d+\.\d+\S*) #\d+.*? (x86_64|aarch64|ppc64le|riscv64)(?: |$)|^Linux \S+ (\d+\.\d+\.\d+\S*) .* (x86_64|aarch64)"
)
_PRETTY = re.compile(
    r"^PRETTY_NAME=[\"']?([^\"']+)[\"']?$|^Description:\s+(\S.*)$|^[^:\n]{2,40}:\s+(Microsoft Windows (?:\d|Server)\S*.*)$|"
    r"^\s*(?:[-*]\s+)?(?:Operating System|(?:Host )?OS): ((?:Ubuntu|Debian|CentOS|Red Hat|Rocky|Alma|Fedora|openSUSE|SUSE|Arch|Amazon|Oracle)\S*.*)$|"
    r"^((?:CentOS Linux|Red Hat Enterprise Linux(?: Server)?|Rocky Linux|AlmaLinux|Fedora|Oracle Linux Server|Amazon Linux) release "
    r"[\w.]+(?: \([^)\n]*\))?)$",
    re.MULTILINE,
)
"""os-release, lsb_release, systeminfo (in any language: its first label is before ``Microsoft Windows``), hostnamectl, /etc/redhat-release."""

_PRETTY_WORDS = ("pretty_name", "description:", "microsoft windows", "operating system:", "os: ", " release ")
_GLIBC = re.compile(
    r"\bldd \((?:[^)]*GLIBC[^)]*|GNU libc|[^)]*)\) (2\.\d+)\b|GNU C Library.*version (2\.\d+)|^glibc[ :=]+(2\.\d+)$", re.MULTILINE
)
_MUSL = re.compile(
    r"musl libc \(\S+\)|ID=alpine|Alpine Linux|\bld-musl-\w+\.so|\b\w+-(?:\w+-)?linux-musl\b"
    r"|Error loading shared library \S+: [^\n]*\(needed by|Error relocating \S+: \S+: symbol not found"
)
"""The last two are how musl's loader words its errors (ldso/dynlink.c); glibc's says "cannot open shared object file"."""

_WINDOWS = re.compile(
    r"^[ \t]*(?:\([\w.-]+\) )?(?:PS )?[A-Z]:\\[^\n]*|File \"[A-Z]:\\|(?:^|[\s\"'(\[])[A-Z]:\\{1,2}[\w .-]+\\|\bwin-amd64-|you're on Windows|"
    r"Pacific_(?:Daylight|Standard)_Time|\[WinError \d+\]|\[MSC v\.\d+|\b(?:c10|c10_cuda|torch_cpu|torch_python|python3\d+)\.dll\b|\\AppData\\Local\\",
    re.MULTILINE,
)
_WINDOWS_PATH = re.compile(r"\bWindowsPath\('[^'\n]{0,200}'\)")
_UNIX = re.compile(r"(?:File \"|^|\s)/(?:home|usr|opt|root|data|mnt|tmp|workspace|content|scratch)/")
_WSL = re.compile(r"/usr/lib/wsl/|microsoft-standard-WSL2|WSL_DISTRO_NAME|wsl --", re.IGNORECASE)
_TEGRA = re.compile(r"^# R(\d+) \(release\), REVISION: ([\d.]+)", re.MULTILINE)
_KERNEL_MODULE = re.compile(rf"NVRM version: NVIDIA UNIX .*Kernel Module(?: for \w+)?\s+({DRIVER})")
_DRIVER = re.compile(
    rf"^[ \t]*(?:[-*][ \t]*)?(?:My )?(?:NVIDIA |Nvidia |nvidia |GPU )?[Dd]river(?: [Vv]ersion)?(?:[ \t]*[:=]| is)[ \t]*v?({DRIVER})\b(?!.*CUDA Version)",
    re.MULTILINE,
)
_NO_SMI = re.compile(
    r"nvidia-smi: (?:command )?not found|command not found: nvidia-smi|'nvidia-smi' is not recognized|The NVIDIA Driver was not detected|^No devices were found$",
    re.IGNORECASE | re.MULTILINE,
)
_PROCESSOR = re.compile(
    r"linux[-_](x86_64|aarch64)\b|manylinux\w*_(x86_64|aarch64)\b|\b(x86_64|aarch64)-(?:conda-)?linux-gnu|^(?:- )?Architecture:\s+(x86_64|aarch64|ppc64le)\b",
    re.MULTILINE,
)


def read(report: CleanText) -> Iterator[Claim]:
    """Yield claims about the system; native Windows only where its paths stand without Unix ones."""
    text = report.text
    lower = report.lower
    if any(word in lower for word in _PRETTY_WORDS) and (match := _PRETTY.search(text)):
        name = next(group for group in match.groups() if group).strip()
        yield Claim("platform.os", name, match[0])
        yield Claim("platform.system", "windows" if "Windows" in name else "linux", match[0])
    yield from _kernel(text)
    if ("ldd (" in lower or "gnu c library" in lower or "\nglibc" in lower) and (match := _GLIBC.search(text)):
        yield Claim("platform.glibc", next(group for group in match.groups() if group), match[0])
    if any(word in lower for word in ("musl", "alpine", "error loading shared", "error relocating")) and (
        match := _MUSL.search(text)
    ):
        yield Claim("platform.musl", "musl", match[0])
    if "wsl" in lower and (match := _WSL.search(text)):
        yield Claim("platform.wsl", "2", match[0])
    if "revision:" in lower and (match := _TEGRA.search(text)):
        yield Claim("platform.jetson", f"R{match[1]}.{match[2]}", match[0])
    for word, pattern in (("nvrm version", _KERNEL_MODULE), ("driver", _DRIVER)):
        if word in lower and (match := pattern.search(text)):
            yield Claim("driver.version", match[1], match[0].strip())
    if ("nvidia-smi" in lower or "driver was not detected" in lower or "no devices were found" in lower) and (
        match := _NO_SMI.search(text)
    ):
        yield Claim("signal.no_gpu", True, match[0])
    if ("x86_64" in lower or "aarch64" in lower or "ppc64le" in lower) and (match := _PROCESSOR.search(text)):
        yield Claim("platform.machine", next(group for group in match.groups() if group), match[0])
    yield from _windows(report)


def _kernel(text: str) -> Iterator[Claim]:
    if "Linux" not in text or not (match := _UNAME.search(text)):
        return
    kernel, machine = match[1] or match[3], match[2] or match[4]
    yield Claim("platform.kernel", kernel, match[0])
    yield Claim("platform.machine", machine, match[0])
    yield Claim("platform.system", "linux", match[0])
    yield Claim("platform.wsl", ("2" if "WSL2" in kernel else "1") if "icrosoft" in kernel else "no", match[0])


def _windows(report: CleanText) -> Iterator[Claim]:
    text = report.text
    if not any(
        word in text
        for word in (":\\", "on Windows", "_Time_", "win-amd64", "[WinError", "WindowsPath(", "[MSC v", ".dll", "\\AppData")
    ):
        return
    if match := _WINDOWS_PATH.search(text):  # pathlib's own word: Unix paths beside it are what a package looked for
        yield from _is_windows(match[0])
        return
    if (match := _WINDOWS.search(text)) and not _UNIX.search(text) and not _WSL.search(text):
        yield from _is_windows(match[0].strip())


def _is_windows(quote: str) -> Iterator[Claim]:
    yield Claim("platform.os", "Windows", quote)
    yield Claim("platform.system", "windows", quote)
    yield Claim("platform.wsl", "no", quote)
