"""What the Python files of a flash-attn expect: the compiled module that they import.

When the download of its wheel fails and nothing can be compiled, upstream's setup.py with ``FLASH_ATTENTION_SKIP_CUDA_BUILD`` makes a
``py3-none-any`` wheel: all Python files, no kernels. It installs, and fails at import (flash-attn 2.8.3.post2 setup.py, read 2026-11-24).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

DISTRIBUTIONS = ("flash-attn", "flash-attn-3")
"""Distributions that are nothing without compiled kernels; ours over PyTorch's kernels imports no compiled module."""

_IMPORT = re.compile(r"^\s*import\s+(flash_attn\w*_cuda|flash_attn_3\._C)\b", re.MULTILINE)
_INTERFACE = re.compile(r"(?:^|/)flash_attn\w*interface\.py$")


def interface_files(names: Iterable[str]) -> tuple[str, ...]:
    """Return the Python files among ``names`` that import the kernels, outside of tests and vendored trees.

    Upstream's 2.7 and 2.8 wheels carry ``hopper/``, the sources of FlashAttention 3, whose compiled module is another wheel's.
    """
    return tuple(name for name in names if _INTERFACE.search(name) and name.count("/") <= 1 and not name.startswith("hopper/"))


def missing_module(distribution: str | None, names: Iterable[str], interfaces: Mapping[str, str]) -> str | None:
    """Return the compiled module that the Python files import and that is not among the files ``names``; None when all is there.

    ``interfaces`` maps the `interface_files` to their text. A flash-attn whose Python files are absent or empty misses its package
    (flash-attn-3 0.0.0 on the package index is such a placeholder).
    """
    files = [PurePosixPath(name) for name in names]
    empty = bool(interfaces) and not any(text.strip() for text in interfaces.values())
    if distribution in DISTRIBUTIONS and (empty or not any(file.suffix in (".py", ".so") for file in files)):
        return distribution.replace("-", "_")
    compiled = {str(file.parent / file.name.split(".")[0]) for file in files if ".so" in file.suffixes}
    imported = [module for text in interfaces.values() for module in _IMPORT.findall(text)]
    return next((module for module in imported if module.replace(".", "/") not in compiled), None)
