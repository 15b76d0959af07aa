"""What a flash-attn wheel's file name says, in all the spellings that its publishers use."""

from __future__ import annotations

import functools
import re

import msgspec

_NAME = re.compile(
    r"(?P<distribution>flash_attn(?:_3)?)-(?P<version>[^+-]+)\+(?P<local>[^-]+)"
    r"-(?P<python>cp\d+|py3)-(?P<python_abi>[a-z0-9]+)-(?P<platform>[A-Za-z0-9_.]+)\.whl"
)
_LOCAL = re.compile(
    r"(?:d?\d{8}\.?)?cu(?P<cuda>\d+)torch(?P<torch>\d+(?:\.\d+)*)(?:cxx11abi(?P<abi>TRUE|FALSE))?(?:git(?P<git>[0-9a-f]+))?(?:\.[0-9a-f]+)?",
    re.IGNORECASE,
)
_GLIBC = re.compile(r"manylinux_2_(\d+)_|(manylinux2014)_")


class WheelName(msgspec.Struct, frozen=True):
    """The parts of a file name; ``cuda`` is a major alone (``12``) where the name gives no more, ``abi`` None where it gives none.

    ``python`` is the tag of the interpreter with its ABI flags (``cp312``, ``cp313t``), ``cp39`` with ``any_later`` for abi3 wheels.
    ``platform`` is ``linux_x86_64``, ``linux_aarch64`` or ``win_amd64``; ``glibc`` is the floor that a manylinux tag states.
    """

    distribution: str
    version: str
    cuda: str
    torch: str
    abi: bool | None
    python: str
    any_later: bool
    platform: str
    glibc: str | None


@functools.lru_cache(maxsize=4096)
def parse(filename: str) -> WheelName | None:
    """Return the parts of a flash-attn wheel's file name, None for a name that is not one for CUDA."""
    if (name := _NAME.fullmatch(filename)) is None or (local := _LOCAL.fullmatch(name["local"])) is None:
        return None
    any_later = name["python_abi"] == "abi3"
    return WheelName(
        distribution=name["distribution"],
        version=name["version"],
        cuda=_cuda(local["cuda"]),
        torch=_torch(local["torch"]),
        abi=None if local["abi"] is None else local["abi"].upper() == "TRUE",
        python=python_of(filename),
        any_later=any_later,
        platform=_platform(name["platform"]),
        glibc=_glibc(name["platform"]),
    )


def python_of(filename: str) -> str:
    """Return the interpreter tag of a wheel's file name: ``cp312``, ``cp313t``; the lowest one for abi3."""
    python, abi = filename.split("-")[2:4]
    return python if abi in ("abi3", "cp37m") else abi


def _cuda(digits: str) -> str:
    """``cu12`` is a major, ``cu118`` is 11.8."""
    return digits if len(digits) <= 2 else f"{digits[:-1]}.{digits[-1]}"


def _torch(text: str) -> str:
    """One publisher leaves the dots out: ``torch280`` is 2.8.0, ``torch2100`` is 2.10.0."""
    return text if "." in text else f"{text[0]}.{text[1:-1]}.{text[-1]}"


def _platform(tag: str) -> str:
    if tag.startswith("win"):
        return tag
    return "linux_aarch64" if tag.endswith("aarch64") else "linux_x86_64"


def _glibc(tag: str) -> str | None:
    """The lowest of the tags counts: pip installs the wheel where any of them fits."""
    floors = [17 if old else int(minor) for minor, old in _GLIBC.findall(tag)]
    return f"2.{min(floors)}" if floors else None
