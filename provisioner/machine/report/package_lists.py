"""Lists of installed packages: ``pip list``, ``pip freeze``, ``conda list``, ``pip show``, and what pip says is already there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import cuda_of_build, cuda_of_torch, is_rocm

FACTS = {
    "torch": "software.torch",
    "pytorch": "software.torch",
    "flash-attn": "software.flash_attn",
    "xformers": "software.xformers",
    "triton": "software.triton",
    "bitsandbytes": "software.bitsandbytes",
    "unsloth": "software.unsloth",
    "transformers": "software.transformers",
    "trl": "software.trl",
    "python": "software.python",
}
_RUNTIMES = re.compile(r"nvidia-cuda-(?:runtime|cupti|nvrtc)(?:-cu(\d\d))?$")
_TAG = re.compile(r"^\s*(?:\[(pip3?|conda)\]|[├└│─\s]*|[-*•+]\s)\s*")
_FREEZE = re.compile(r"^([A-Za-z][\w.-]*)\s?==\s?(\d[\w.+!-]*)\s*(?:;.*|#.*|\\)?$")
_DIRECT = re.compile(r"^([A-Za-z][\w.-]*)(?:\[[\w,]+\])? @ \S*/[A-Za-z][\w.]*-(\d[\w.+]*)-(?:cp|py)\d\S*\.whl(?:#\S*)?$")
_TABLE = re.compile(r"^([A-Za-z][\w.-]*)(?:\s{2,}|\t+)(\d[\w.+!-]*)(?:\s+(\S.*))?$")
_ROW = re.compile(r"^\|?\s*`?([A-Za-z][\w.-]*)`?\s*(?:\||:|=|\s)\s*`?v?(\d+\.\d[\w.+!-]*)`?\s*(?:\||\(.*\))?$")
_ALREADY = re.compile(r"Requirement already satisfied: ([A-Za-z][\w.-]*)\S* in \S+.*\((\d[\w.+!-]*)\)\s*$")
_INSTALLED = re.compile(r"Successfully installed (.+)$")
_SHOW_NAME = re.compile(r"^Name: ([A-Za-z][\w.-]*)$")
_SHOW_VERSION = re.compile(r"^Version: (\d\S*)$")
_ANY = re.compile(
    r"[Tt]orch|[Ff]lash|xformers|[Tt]riton|bitsandbytes|[Uu]nsloth|[Tt]ransformers|trl|nvidia.cuda|[Pp]ython|^Name:"
)
_LONGEST = 400
"""Characters of a row of a list; the line of ``Successfully installed`` may be longer."""


def read(report: CleanText) -> Iterator[Claim]:
    """Yield a claim per known package; torch's CUDA follows from its label, its build string, or the CUDA wheels beside it.

    What pip installed last replaces what it found before.
    """
    installed: list[Claim] = []
    claims: list[Claim] = []
    runtime: Claim | None = None
    torch: str | None = None
    pending: str | None = None
    for line in report.lines:
        if (len(line) > _LONGEST and "Successfully installed" not in line) or (pending is None and not _ANY.search(line)):
            continue
        line = line.strip()
        if match := _SHOW_NAME.match(line):
            pending = match[1]
            continue
        if pending and (match := _SHOW_VERSION.match(line)):
            rows = [(pending, match[1], "")]
        else:
            rows = _rows(line)
        pending = None
        for name, version, build in rows:
            canonical = name.lower().replace("_", "-").replace(".", "-")
            if match := _RUNTIMES.match(canonical):
                runtime = runtime or _runtime(match[1], version, line)
            elif canonical in FACTS:
                torch = torch or (version if FACTS[canonical] == "software.torch" else None)
                found = list(_package(canonical, version, build, line))
                if _INSTALLED.search(line):
                    installed = found + installed
                else:
                    claims += found
    yield from installed
    yield from claims
    if runtime is not None and (torch is None or "+" not in torch):
        yield runtime


def _rows(line: str) -> list[tuple[str, str, str]]:
    if match := _ALREADY.search(line):
        return [(match[1], match[2], "")]
    if match := _INSTALLED.search(line):
        return [
            (name, version, "")
            for word in match[1].split()
            for name, _, version in [word.rpartition("-")]
            if version[:1].isdigit()
        ]
    body = _TAG.sub("", line)
    if " @ " in body and (match := _DIRECT.match(body.replace("%2B", "+"))):
        return [(match[1], match[2] if match[1].lower().startswith("torch") else match[2].partition("+")[0], "")]
    if match := _FREEZE.match(body):
        return [(match[1], match[2], "")]
    if match := _TABLE.match(body):
        return [(match[1], match[2], match[3] or "")]
    if match := _ROW.match(body):
        return [(match[1], match[2], "")]
    return []


def _package(name: str, version: str, build: str, line: str) -> Iterator[Claim]:
    if name == "python":
        match = re.match(r"[23]\.\d+(?:\.\d+)?(?:(?:a|b|rc)\d+)?", version)
        if match is None:
            return
        version = match[0]
    if build.startswith("("):  # a sentence, not a row: "Python  3.10.16 (you have 3.10.12)"
        return
    yield Claim(FACTS[name], version, line)
    if FACTS[name] == "software.torch":
        if cuda := cuda_of_torch(version) or cuda_of_build(build):
            yield Claim("software.torch_cuda", cuda, line)
        if is_rocm(version):
            yield Claim("signal.rocm", version, line)
        if "+cpu" in version or "cpu" in build:
            yield Claim("software.torch_cuda", None, line)
            yield Claim("signal.cpu_torch", True, line)


def _runtime(tag: str | None, version: str, line: str) -> Claim | None:
    """The CUDA runtime wheel that torch brings along names torch's CUDA: ``nvidia-cuda-runtime-cu12 12.1.105`` → 12.1."""
    match = re.match(r"(\d+)\.(\d+)", version)
    if match is None or (tag and match[1] != tag):
        return None
    return Claim("software.torch_cuda", f"{match[1]}.{match[2]}", line)
