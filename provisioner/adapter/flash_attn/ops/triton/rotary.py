"""Rotary embedding without gradients, at the place of upstream's Triton kernel. ModernBERT calls it inside its own autograd function."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._rotary import angles, turn


@torch.no_grad()
def apply_rotary(
    x: Tensor,
    cos: Tensor,
    sin: Tensor,
    seqlen_offsets: int | Tensor = 0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | None = None,
    interleaved: bool = False,
    inplace: bool = False,
    conjugate: bool = False,
) -> Tensor:
    """Return ``x`` turned by the angles of ``cos`` and ``sin`` ``(positions, half of the rotated dims)``, backwards if ``conjugate``.

    ``x`` is ``(batch, tokens, heads, dim)``, or ``(tokens, heads, dim)`` with ``cu_seqlens``; ``inplace`` it is overwritten and returned.
    Raise `ValueError` as `angles` does.
    """
    cos, sin = angles(x, cos, sin, seqlen_offsets, cu_seqlens, max_seqlen)
    turned = turn(x, cos, -sin if conjugate else sin, interleaved)
    return x.copy_(turned) if inplace else turned
