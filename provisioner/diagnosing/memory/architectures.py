"""The model types whose parameters can be counted from their configuration, and what that leaves to the type's own defaults.

Read in transformers 5.17.0 (configuration and modelling files), and the counts compared with its models on the meta device, 2026-11-27.
A type that is not here is not guessed at: latent attention (deepseek_v3), state spaces (mamba) and cross attention (mllama) count otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Architecture:
    """A decoder. ``gates`` is how many input matrices its MLP has (2 with a gate), ``tied`` whether the head is the embeddings' by default.

    ``experts`` names the field for their number, ``defaults`` what published configurations leave out, ``regular`` fields that must
    have this value where they are stated: otherwise some layers differ from the rest.
    """

    gates: int = 2
    tied: bool = False
    experts: str | None = None
    shared: str | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)
    regular: Mapping[str, Any] = field(default_factory=dict)


_GATED, _TIED, _PLAIN, _PLAIN_TIED = Architecture(), Architecture(tied=True), Architecture(1), Architecture(1, tied=True)
_GEMMA = Architecture(tied=True, defaults={"head_dim": 256})
_GEMMA_3 = Architecture(
    tied=True, defaults={"head_dim": 256, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208}
)
_QWEN_MOE = {"decoder_sparse_step": 1, "mlp_only_layers": []}

KNOWN: dict[str, Architecture] = {
    **dict.fromkeys(("llama", "mistral", "ministral", "qwen2", "qwen3", "phi3", "granite", "olmo2", "stablelm", "glm4"), _GATED),
    **dict.fromkeys(("cohere", "cohere2", "smollm3"), _TIED),
    **dict.fromkeys(("gemma", "gemma2"), _GEMMA),
    **dict.fromkeys(("gemma3_text", "gemma3"), _GEMMA_3),
    **dict.fromkeys(("gpt_neox", "phi"), _PLAIN),
    **dict.fromkeys(("gpt2", "opt", "starcoder2"), _PLAIN_TIED),
    **dict.fromkeys(
        ("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl", "qwen3_vl_text", "llava", "mistral3"), _GATED
    ),
    "mixtral": Architecture(experts="num_local_experts"),
    "qwen2_moe": Architecture(experts="num_experts", shared="shared_expert_intermediate_size", regular=_QWEN_MOE),
    "qwen3_moe": Architecture(experts="num_experts", regular=_QWEN_MOE),
    "gpt_oss": Architecture(experts="num_local_experts"),
    "llama4_text": Architecture(
        experts="num_local_experts", shared="intermediate_size", regular={"interleave_moe_layer_step": 1}
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tower:
    """A vision tower: the fields for its depth, width and MLP width, and how many matrices that MLP has."""

    depth: str
    width: str
    mlp: str
    matrices: int


TOWERS: dict[str, Tower] = {
    "qwen2_5_vl": Tower("depth", "hidden_size", "intermediate_size", 3),
    "qwen3_vl": Tower("depth", "hidden_size", "intermediate_size", 2),
    "siglip_vision_model": Tower("num_hidden_layers", "hidden_size", "intermediate_size", 2),
    "clip_vision_model": Tower("num_hidden_layers", "hidden_size", "intermediate_size", 2),
    "pixtral": Tower("num_hidden_layers", "hidden_size", "intermediate_size", 3),
}


def tower_parameters(vision: Mapping[str, Any], outer: str) -> int | None:
    """Return the parameters of a vision tower's layers, None where its type is not known; its projector (a few per cent) is left out."""
    tower = TOWERS.get(str(vision.get("model_type") or outer)) or TOWERS.get(outer)
    sizes = [vision.get(name) for name in (tower.depth, tower.width, tower.mlp)] if tower else []
    if tower is None or not all(isinstance(size, int) and 0 < size < 10**6 for size in sizes):
        return None
    depth, width, mlp = (int(size) for size in sizes if size is not None)
    return depth * (4 * width * width + tower.matrices * width * mlp)
