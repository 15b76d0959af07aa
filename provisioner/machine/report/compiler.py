"""What compilers and builds print about CUDA: ``nvcc -V``, and torch's comparison of nvcc with itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText

_NVCC = re.compile(r"Cuda compilation tools, release \d+\.\d+, V(\d+\.\d+\.\d+)")
_NVCC_SHORT = re.compile(r"Cuda compilation tools, release (\d+\.\d+)")
_CMAKE = re.compile(r"The CUDA compiler identification is NVIDIA (\d+\.\d+\.\d+)")
_BUILD = re.compile(r"^\s*(?:[-*]\s+)?(?:nvcc(?: version)?: )?Build cuda_(\d+\.\d+)\.", re.MULTILINE | re.IGNORECASE)
"""The last line of ``nvcc -V``, which mmcv's and mmengine's reports print alone, others behind a label."""

_MISMATCH = re.compile(
    r"The detected CUDA version \((?P<nvcc>\d+(?:\.\d+)+)\)\s+(?:has a minor version mismatch with the version|mismatches the version)"
    r"\s+that was\s+used to\s+compile\s+PyTorch\s+\((?P<torch>\d+(?:\.\d+)+)\)"
)
_MISMATCH_UNFILLED = re.compile(
    r"detected CUDA version \(%s\)[^\n]{0,40}mismatch[^\n]{0,160}'(?P<nvcc>\d+(?:\.\d+)+)', '(?P<torch>\d+(?:\.\d+)+)'"
)
"""How some torch versions print it: the format beside its values, as a tuple (seen with CUDA 13.0: flash-attention-v100#35)."""

_DEEPSPEED = re.compile(
    r"Installed CUDA version (?P<nvcc>\d+(?:\.\d+)+) does not match the version torch was compiled with (?P<torch>\d+(?:\.\d+)+)"
)
"""DeepSpeed's own comparison (op_builder/builder.py of 0.8.1, read 2026-11-27)."""

_ISOLATED = re.compile(r"pip-build-env|/builds-v0/|\\pip-build-env")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield nvcc's version, and torch's CUDA where a build compares the two (not that of an isolated build's own torch)."""
    if "cuda compilation tools" in report.lower:
        for pattern in (_NVCC, _NVCC_SHORT):
            if match := pattern.search(report.text):
                yield Claim("software.nvcc", match[1], match[0])
                break
    for word, pattern in (("CUDA compiler identification", _CMAKE), ("Build cuda_", _BUILD)):
        if word in report.text and (match := pattern.search(report.text)):
            yield Claim("software.nvcc", match[1], match[0])
    if match := _mismatch(report.text):
        start = report.text.rfind("\n", 0, match.start()) + 1
        if not _ISOLATED.search(report.text[start : match.start()]):
            yield Claim("software.nvcc", match["nvcc"], match[0])
            yield Claim("software.torch_cuda", match["torch"], match[0])


def _mismatch(text: str) -> re.Match[str] | None:
    if "detected CUDA version" in text:
        return _MISMATCH.search(text) or _MISMATCH_UNFILLED.search(text)
    return _DEEPSPEED.search(text) if "Installed CUDA version" in text else None
