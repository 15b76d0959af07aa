"""What a wheel's file name says: version, tags, and for flash-attn the torch, CUDA and C++ ABI in its local label.

Labels read here (seen in release lists, 2026-11-24): ``cu12torch2.9cxx11abiTRUE`` (official), ``cu128torch2.10`` (community), ``pt29cu128``.
A label is a claim, not a fact: `provisioner.wheels.inspect` reads the binary itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from provisioner.errors import UsageError
from provisioner.wheels.linkage import Abi

_TORCH = re.compile(r"(?:torch|pt)[.-]?(\d+\.\d+(?:\.\d+)?)")
_TORCH_SHORT = re.compile(r"(?:torch|pt)(\d)(\d{1,2})(?!\d|\.\d)")
_CUDA = re.compile(r"cu[.-]?(\d{2,3})(?!\d)")
_ABI = re.compile(r"cxx11abi(true|false)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WheelName:
    """A parsed wheel file name. ``tags`` are written out (``cp312-cp312-linux_x86_64``); ``cuda`` is ``"12"`` or ``"12.8"``."""

    filename: str
    name: str
    version: str
    build: str
    tags: tuple[str, ...]
    torch: str | None = None
    cuda: str | None = None
    abi: Abi | None = None

    @classmethod
    def parse(cls, text: str) -> WheelName:
        """Read a wheel's file name, path or URL. Raise `UsageError` when it is no valid wheel name."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        filename = unquote(PurePosixPath(urlsplit(text).path if "://" in text else text).name)
        try:
            name, version, build, tags = parse_wheel_filename(filename)
        except InvalidWheelFilename as error:
            raise UsageError(
                f"{filename} is not the name of a wheel",
                why=str(error).partition(":")[0],
                hints=["keep the name that it was published with: name-version-python-abi-platform.whl"],
                code="bad-wheel-name",
            ) from error
        label = version.local or ""
        return cls(
            filename,
            str(name),
            str(version),
            "".join(str(part) for part in build),
            tuple(sorted(str(tag) for tag in tags)),
            torch=label_torch(label),
            cuda=label_cuda(label),
            abi=_label_abi(label),
        )

    @staticmethod
    def torch_of(version: str) -> str | None:
        """Return the torch version that the local label of ``version`` names (``2.8.3+cu12torch2.9cxx11abiTRUE`` → ``2.9``)."""
        return label_torch(version.partition("+")[2])

    @property
    def pure(self) -> bool:
        """True for a wheel that promises to run anywhere (``none-any``)."""
        return all(tag.endswith("-none-any") for tag in self.tags)


def label_torch(label: str) -> str | None:
    """Return the torch version that a local label names, None where it names none."""
    if match := _TORCH.search(label):
        return match[1]
    match = _TORCH_SHORT.search(label)
    return f"{match[1]}.{match[2]}" if match else None


def label_cuda(label: str) -> str | None:
    """Return the CUDA version that a local label names: ``"12.8"`` for ``cu128``, ``"12"`` for ``cu12``."""
    match = _CUDA.search(label)
    if match is None:
        return None
    digits = match[1]
    return digits if len(digits) == 2 else f"{digits[:2]}.{digits[2]}"


def _label_abi(label: str) -> Abi | None:
    match = _ABI.search(label)
    if match is None:
        return None
    return Abi.CXX11 if match[1].lower() == "true" else Abi.PRE_CXX11
