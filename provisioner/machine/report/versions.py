"""The version notations of the field, and what they say: local labels of torch, driver numbers, CUDA tags."""

from __future__ import annotations

import re

VERSION = r"\d+(?:\.\d+)+(?:(?:a|b|rc|\.?post|\.?dev)\d*)*(?:\+\w+(?:\.\w+)*)?"
DRIVER = r"[1-9]\d{2}\.\d{1,3}(?:\.\d{1,2}){0,2}"

_CUDA_LABEL = re.compile(r"\+(?:\w+\.)*cu(\d{2,3})(?!\d)")
_CUDA_BUILD = re.compile(r"cuda_?(\d+\.\d+)|(?:^|_)cuda(\d{2,3})(?:_|py)")


def cuda_of_torch(version: str) -> str | None:
    """Return the CUDA that torch's own local label names: ``2.5.1+cu124`` → ``12.4``, ``1.9.0+cu111`` → ``11.1``."""
    match = _CUDA_LABEL.search(version)
    return dotted_cuda(match[1]) if match else None


def dotted_cuda(tag: str) -> str:
    """Return ``124`` as ``12.4``, ``92`` as ``9.2``: the last digit is the minor version."""
    return f"{tag[:-1]}.{tag[-1]}"


def cuda_of_build(text: str) -> str | None:
    """Return the CUDA in a conda build string: ``py3.12_cuda12.4_cudnn9.1.0_0`` of PyTorch's channel, ``cuda126_py312h…`` of conda-forge."""
    match = _CUDA_BUILD.search(text)
    if match is None:
        return None
    return match[1] or dotted_cuda(match[2])


def is_rocm(version: str) -> bool:
    """Say whether a torch version is a ROCm build."""
    return "+rocm" in version


def python_of_tag(digits: str) -> str:
    """Return ``310`` (of ``cp310`` or ``cpython-310``) as ``3.10``."""
    return f"{digits[0]}.{digits[1:]}"
