"""Which keys a query sees, and how the kernels are told: plain integers, no tensors.

flash-attn ≥ 2.1 lays its masks from the bottom right corner; the kernels here know a triangle from the top left, one from the bottom
right, and a window below either. A mask that is neither is brought to one of them: rows and keys that nobody sees are cut off, and
rows put in front move the diagonal (their output is dropped).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Triangle(IntEnum):
    """Masks of `aten::_efficient_attention_forward`, by its ``custom_mask_type``."""

    NONE = 0
    TOP_LEFT = 1
    BOTTOM_RIGHT = 2


@dataclass(frozen=True)
class Bounds:
    """Query ``i`` of ``n`` sees key ``j`` of ``m`` when ``i + m - n - left <= j <= i + m - n + right``; None leaves a side open."""

    left: int | None = None
    right: int | None = None

    @classmethod
    def of(cls, causal: bool, window_size: tuple[int, int]) -> Bounds:
        """Return the bounds that flash-attn 2.x means: a negative side is open, and ``causal`` closes the right one at 0."""
        left, right = (None if side < 0 else int(side) for side in window_size)
        return cls(left, 0 if causal else right)


@dataclass(frozen=True)
class Cut:
    """One attention in the kernels' terms: rows ``rows`` of the queries over keys ``keys``, ``front`` empty rows before them.

    ``window`` counts the keys up to the diagonal that a row sees; None is all of them.
    """

    rows: tuple[int, int]
    keys: tuple[int, int]
    triangle: Triangle
    window: int | None = None
    front: int = 0


def cut(queries: int, keys: int, bounds: Bounds, *, backward: bool) -> Cut | None:
    """Return the cut for one sequence, None when no query sees any key.

    ``backward`` avoids a window below a triangle from the bottom right: the backward kernel lays that window from the top left
    (kernel_backward.h of torch 2.13 and 2.14, read 2026-11-25), so its gradients would be wrong.
    """
    shift, left, right = keys - queries, bounds.left, bounds.right
    first = 0 if right is None else max(0, -(shift + right))
    last = queries if left is None else min(queries, keys + left - shift)
    if keys == 0 or last <= first:
        return None
    low = 0 if left is None else max(0, first + shift - left)
    high = keys if right is None else min(keys, last + shift + right)
    rows, width, shift = last - first, high - low, shift + first - low
    cuts_left = left is not None and rows - 1 + shift - left > 0
    cuts_right = right is not None and shift + right < width - 1
    if not cuts_left and not cuts_right:
        return Cut((first, last), (low, high), Triangle.NONE)
    diagonal = shift + right if right is not None and cuts_right else width - 1
    window = diagonal - shift + left + 1 if left is not None and cuts_left else None
    if diagonal == 0:
        return Cut((first, last), (low, high), Triangle.TOP_LEFT, window)
    if diagonal == width - rows and not (backward and window is not None):
        return Cut((first, last), (low, high), Triangle.BOTTOM_RIGHT, window)
    return Cut((first, last), (low, high), Triangle.TOP_LEFT, window, front=diagonal)


def cut_all(lengths: list[tuple[int, int]], bounds: Bounds, *, backward: bool) -> Cut | None:
    """Return the one triangle and window that is right for every (queries, keys) of a packed batch; None when there is none.

    A sequence without keys, or one with queries that see none, needs zeros that the kernels do not write. (``rows`` and ``keys`` of
    the answer mean nothing.)
    """
    if any(keys == 0 or queries == 0 for queries, keys in lengths if (queries, keys) != (0, 0)):
        return None
    if bounds == Bounds():
        return Cut((0, 0), (0, 0), Triangle.NONE)
    if bounds.right != 0:
        return None
    window = None if bounds.left is None else bounds.left + 1
    if all(queries == keys for queries, keys in lengths):
        return Cut((0, 0), (0, 0), Triangle.TOP_LEFT, window)
    if all(queries <= keys for queries, keys in lengths) and not (backward and window is not None):
        return Cut((0, 0), (0, 0), Triangle.BOTTOM_RIGHT, window)
    return None
