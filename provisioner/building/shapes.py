"""Block shapes: upstream compiles a kernel in several and takes one by the GPU that it finds; a build for one GPU needs only that one.

For each kernel of 2.8.3.post2 the table holds the template arguments of its shapes and on which compute capabilities upstream's
host code takes them. Source: flash_fwd_launch_template.h and flash_bwd_launch_template.h, read 2026-11-25; shared memory by compute
capability: CUDA C++ Programming Guide, "Technical Specifications per Compute Capability".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from provisioner.capability import ComputeCapability
from provisioner.wheels.verdict import runs_on

SHARED_KIB = {80: (163, 164), 86: (99, 100), 87: (163, 164), 89: (99, 100), 90: (227, 228), 100: (227, 228), 103: (227, 228)}
SHARED_KIB |= {110: (227, 228), 120: (99, 100), 121: (99, 100)}
"""Ten times the compute capability → KiB of shared memory that a block may take, and that a multiprocessor has."""

RELEASES = ("2.8.3.post2",)
"""The releases whose templates have these shapes; for another, every shape is compiled."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A block shape: the traits' template arguments between head dim and element type, and on which GPUs it is taken."""

    arguments: str
    taken: Callable[[int], bool]


def _always(_: int) -> bool:
    return True


def _sm8x(gpu: int) -> bool:
    return 80 < gpu < 90


def _not_sm8x(gpu: int) -> bool:
    return not _sm8x(gpu)


def _block_of(least: int, below: int = 1000) -> Callable[[int], bool]:
    return lambda gpu: least <= SHARED_KIB[gpu][0] < below


def _wide_256(gpu: int) -> bool:
    block, multiprocessor = SHARED_KIB[gpu]
    return block >= 128 and multiprocessor < 192


def _narrow_256(gpu: int) -> bool:
    return not _wide_256(gpu)


_WIDE, _SQUARE, _LOW = "128, 64, 4, false, false", "64, 64, 4, false, false", "128, 32, 4, false, false"


def _forward(dim: int, causal: bool, dropout: bool) -> tuple[Shape, ...]:
    match dim:
        case 96 if causal:
            return Shape(_SQUARE, _sm8x), Shape(_WIDE, _not_sm8x)
        case 96:
            return (Shape(_WIDE, _always),)
        case 128 if dropout:
            return (Shape(_LOW, _always),)
        case 128:
            return Shape(_SQUARE if causal else _LOW, _sm8x), Shape(_WIDE, _not_sm8x)
        case 160 | 192:
            return (Shape(_SQUARE if dropout else "128, 64, 8, false, false", _always),)
        case 256:
            return Shape("128, 64, 8, false, false", _wide_256), Shape(_SQUARE, _narrow_256)
        case 64 if dropout:
            return (Shape(_WIDE, _always),)
        case _:
            return (Shape("128, 128, 4, false, false", _always),)


def _backward(dim: int, _: bool, dropout: bool) -> tuple[Shape, ...]:
    small = "64, 64, 8, 4, 2, 2"
    match dim:
        case 64:
            large = "128, 128, 8, 4, 4, 4, false, false"
            return Shape(large, _block_of(144)), Shape("64, 128, 8, 2, 4, 4, true, false", _block_of(0, 144))
        case 96 if dropout:
            return tuple(
                Shape(f"64, 128, 8, 2, 4, 4, {in_registers}, false", taken)
                for in_registers, taken in (("false", _block_of(116)), ("true", _block_of(0, 116)))
            )
        case 96:
            return (Shape("64, 128, 8, 2, 4, 4, true, false", _always),)
        case 128:
            return Shape("64, 128, 8, 2, 4, 2, false, false", _block_of(144)), Shape(f"{small}, true, false", _block_of(0, 144))
        case 160 | 192:
            return Shape(f"{small}, false, false", _block_of(136)), Shape(f"{small}, true, true", _block_of(0, 136))
        case 256:
            lean = () if dropout else (Shape("64, 32, 8, 4, 1, 2, true, true", _block_of(0, 144)),)
            return Shape(f"{small}, false, false", _block_of(176)), Shape(f"{small}, false, true", _block_of(144, 176)), *lean
        case _ if dropout:
            return (
                Shape("128, 128, 8, 4, 4, 4, false, false", _block_of(104)),
                Shape("128, 128, 8, 4, 4, 4, true, false", _block_of(0, 104)),
            )
        case _:
            return (Shape("128, 128, 8, 4, 4, 4, true, false", _always),)


def shapes_of(direction: str, head_dim: int, causal: bool, dropout: bool) -> tuple[Shape, ...]:
    """Return the block shapes of a kernel (``fwd`` or ``bwd``), each once."""
    return (_forward if direction == "fwd" else _backward)(head_dim, causal, dropout)


def gpus_of(archs: Sequence[str]) -> tuple[int, ...] | None:
    """Return the GPUs (ten times their compute capability) on which binary code for ``archs`` runs (`runs_on`), None for any number of them."""
    found: set[int] = set()
    for arch in archs:
        runs = {gpu for gpu in SHARED_KIB if runs_on(arch, ComputeCapability.parse(str(gpu)))}
        if not arch.startswith("sm_") or not runs:
            return None
        found |= runs
    return tuple(sorted(found))


def needed_shapes(direction: str, head_dim: int, causal: bool, dropout: bool, gpus: Sequence[int] | None) -> tuple[Shape, ...]:
    """Return the shapes that upstream takes on at least one of ``gpus``; all of them when that is None."""
    shapes = shapes_of(direction, head_dim, causal, dropout)
    return shapes if gpus is None else tuple(shape for shape in shapes if any(shape.taken(gpu) for gpu in gpus))
