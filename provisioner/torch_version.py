"""What a torch states of itself in its ``torch/version.py``, read as text: importing torch takes seconds and may hang on a broken driver."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ASSIGNED = re.compile(r"^(__version__|cuda|git_version)\b[^=\n]*= *(['\"])([^'\"\n]{1,60})\2", re.MULTILINE)
_MINOR = re.compile(r"\d{1,2}\.\d{1,2}")


@dataclass(frozen=True, slots=True)
class TorchVersion:
    """``version`` keeps its local label, ``cuda`` is ``"12.8"`` or None for a CPU build, ``revision`` is the git commit; None where not stated."""

    version: str | None = None
    cuda: str | None = None
    revision: str | None = None


def parse_torch_version(text: str) -> TorchVersion:
    """Return what the text of a ``torch/version.py`` states (its form in torch 1.13 to 2.14, with and without annotations, read 2026-11-25)."""
    stated = {name: value for name, _, value in _ASSIGNED.findall(text)}
    cuda = _MINOR.match(stated.get("cuda", ""))
    return TorchVersion(stated.get("__version__"), cuda[0] if cuda else None, stated.get("git_version"))
