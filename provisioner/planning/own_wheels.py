"""The wheels of the user's own wheelhouse as candidates: read from what each build wrote beside its wheel, never from the wheel itself.

A wheel of the wheelhouse was compiled here or on a machine that shares the folder, so it is taken before anything is compiled again.
Its bytes are compared with the hash when it is fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.planning.numbers import minor, numbers
from provisioner.planning.stock import WheelStock
from provisioner.planning.values import KernelSelection, Trust


class _Stored(msgspec.Struct, frozen=True):
    """``wheel.json``: the file and its hash."""

    filename: str
    sha256: str


class _Inputs(msgspec.Struct, frozen=True):
    """What shaped the binary; trees by others and the adapter state something else and are no candidates."""

    version: str
    torch: str
    cxx11_abi: bool
    python_abi: str
    platform: str
    glibc: str
    archs: tuple[str, ...]
    head_dims: tuple[int, ...]
    dtypes: tuple[str, ...]
    features: tuple[str, ...]


class _Provenance(msgspec.Struct, frozen=True):
    """``provenance.json``."""

    key: str
    inputs: _Inputs


def read_wheelhouse(root: Path) -> tuple[WheelStock, ...]:
    """Return the flash-attn wheels below ``root`` by file name; what is damaged, foreign or not readable is left out."""
    try:
        return tuple(sorted(_wheels(root), key=lambda wheel: (wheel.filename, wheel.key)))
    except OSError:  # no such folder, or one that this user may not read
        return ()


def _wheels(root: Path) -> Iterator[WheelStock]:
    for index in root.glob("??/*/wheel.json"):
        try:
            stored = msgspec.json.decode(index.read_bytes(), type=_Stored)
            made = msgspec.json.decode((index.parent / "provenance.json").read_bytes(), type=_Provenance)
            yield _wheel(index.parent / stored.filename, stored, made)
        except (OSError, ValueError, msgspec.MsgspecError):
            continue


def _wheel(path: Path, stored: _Stored, made: _Provenance) -> WheelStock:
    """Return the wheel at ``path``. The glibc of the machine that built it is the most that it can need."""
    inputs = made.inputs
    _, _, label = inputs.torch.partition("+cu")
    processor = inputs.platform.removeprefix("linux_")
    binaries = (arch for arch in inputs.archs if arch.startswith("sm_"))
    return WheelStock(
        version=inputs.version,
        cuda=(int(label[:-1]), int(label[-1])),
        torch=minor(inputs.torch),
        python=inputs.python_abi,
        processor=processor,
        system="linux",
        abi=None,
        real_abi=inputs.cxx11_abi,
        url=path.absolute().as_uri(),
        filename=stored.filename,
        sha256=stored.sha256,
        trust=Trust.WHEELHOUSE,
        glibc=numbers(inputs.glibc)[:2] or None,
        archs=tuple(sorted(ComputeCapability.parse(arch) for arch in binaries)),
        kernels=KernelSelection("custom", inputs.head_dims, inputs.dtypes, inputs.features),
        key=made.key,
    )
