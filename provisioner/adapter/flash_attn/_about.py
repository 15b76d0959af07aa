"""What this package is, and which kernels a call would take."""

from __future__ import annotations

import torch

from ._masks import Bounds, cut
from ._problem import Problem, capability_of, choose

__version__ = "2.8.3"
"""The flash-attn whose functions these are, without the label, as in upstream's own wheels: xformers 0.0.30 and 0.0.31 read three numbers
here, and later ones refuse what sorts above their range, as ``2.8.2+aten`` sorts above ``2.8.2``."""

__build__ = "2.8.3+aten"
"""The version of this distribution: its label names the kernels inside. Both lines are written when the wheel is made."""


def kernels(
    dtype: torch.dtype = torch.float16,
    head_dim: int = 64,
    *,
    causal: bool = True,
    window_size: tuple[int, int] = (-1, -1),
    lengths: tuple[int, int] = (128, 128),
    dropout_p: float = 0.0,
    backward: bool = True,
    device: str | torch.device = "cuda",
) -> str:
    """Return ``turing109`` or ``aten``: the kernels that sequences of ``lengths`` (queries, keys) would be computed by.

    Raise `NotImplementedError` with the reasons where none would.
    """
    found = cut(*lengths, Bounds.of(causal, window_size), backward=backward or dropout_p > 0)
    place = torch.device(device)
    if place.type == "cuda" and place.index is None:
        place = torch.device("cuda", torch.cuda.current_device())
    if found is None:
        return "none: no query sees a key"
    problem = Problem(
        dtype,
        head_dim + -head_dim % 8,
        capability_of(place),
        1.0,
        found.triangle,
        found.window,
        found.rows[1] - found.rows[0] + found.front == found.keys[1] - found.keys[0],
        dropout_p,
        backward=backward,
    )
    return str(choose(problem).NAME)
