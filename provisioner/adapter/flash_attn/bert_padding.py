"""Padded batches to packed tokens and back, with the names and results of flash-attn 2.x. Indexing is PyTorch's, and so are gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def index_first_axis(input: Tensor, indices: Tensor) -> Tensor:
    """Return the rows ``indices`` of ``input``."""
    return input[indices]


def index_put_first_axis(values: Tensor, indices: Tensor, first_axis_dim: int) -> Tensor:
    """Return ``first_axis_dim`` rows of zeros with ``values`` at ``indices``."""
    return values.new_zeros(first_axis_dim, *values.shape[1:]).index_copy(0, indices, values)


def index_first_axis_residual(input: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows ``indices`` of ``input``, and ``input`` itself for what is added to it later."""
    return input[indices], input


def unpad_input(
    hidden_states: Tensor, attention_mask: Tensor, unused_mask: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, int, Tensor]:
    """Return the tokens that the masks keep, their indices, the sequences' starts (int32), the longest length, and the lengths
    without what ``unused_mask`` reserves.
    """
    kept = attention_mask if unused_mask is None else attention_mask + unused_mask
    lengths = kept.sum(-1, dtype=torch.int32)
    indices, starts, longest = _layout_of(kept, lengths)
    used = attention_mask.sum(-1, dtype=torch.int32)
    return index_first_axis(hidden_states.flatten(0, 1), indices), indices, starts, longest, used


def unpad_input_for_concatenated_sequences(
    hidden_states: Tensor, attention_mask_in_length: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return tokens, indices, starts and longest length where each row holds several sequences, given by their lengths."""
    total = attention_mask_in_length.sum(-1)
    kept = torch.arange(attention_mask_in_length.shape[-1], device=total.device) < total[:, None]
    flat = attention_mask_in_length.flatten()
    indices, starts, longest = _layout_of(kept, flat[flat.nonzero().flatten()])
    return index_first_axis(hidden_states.flatten(0, 1), indices), indices, starts, longest


def _layout_of(kept: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, int]:
    indices = kept.flatten().nonzero().flatten()
    return indices, pad(lengths.cumsum(0, dtype=torch.int32), (1, 0)), int(lengths.max())


def pad_input(hidden_states: Tensor, indices: Tensor, batch: int, seqlen: int) -> Tensor:
    """Undo `unpad_input`: ``(batch, seqlen, ...)`` with zeros where nothing was kept."""
    return index_put_first_axis(hidden_states, indices, batch * seqlen).unflatten(0, (batch, seqlen))
