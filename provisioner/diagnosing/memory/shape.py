"""The shape of a model as its ``config.json`` states it, and the parameters that follow from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioner.diagnosing.memory.architectures import KNOWN, Architecture, tower_parameters
from provisioner.errors import UsageError

CONFIG_LIMIT = 1024 * 1024
"""Bytes read of a config.json; real ones have a few thousand."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What memory depends on. ``gates`` is how many input matrices an MLP has (2 with a gate), ``experts`` 0 for a dense model.

    ``vision`` are the parameters of a vision tower, ``uncounted`` names what of the model is not in any of these numbers.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool = False
    gates: int = 2
    experts: int = 0
    expert_intermediate: int = 0
    shared_intermediate: int = 0
    vision: int = 0
    uncounted: tuple[str, ...] = ()

    @property
    def projections(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of the attention and MLP matrices of one layer that LoRA usually adapts (``all-linear``), experts left out."""
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = ((self.hidden, query), (self.hidden, key), (self.hidden, key), (query, self.hidden))
        width = self.intermediate if not self.experts else self.shared_intermediate
        mlp = ((self.hidden, width),) * self.gates + ((width, self.hidden),) if width else ()
        return attention + mlp

    @property
    def linear_parameters(self) -> int:
        """Parameters in the matrices of all layers: what a 4-bit load quantises."""
        dense = sum(rows * columns for rows, columns in self.projections)
        return self.layers * (dense + self.experts * (self.gates + 1) * self.hidden * self.expert_intermediate)

    @property
    def other_parameters(self) -> int:
        """Embeddings, an untied head, norms, routers and a vision tower: 16-bit beside 4-bit weights."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables + self.layers * (2 * self.hidden + self.experts * self.hidden) + self.hidden + self.vision

    @property
    def parameters(self) -> int:
        """All parameters."""
        return self.linear_parameters + self.other_parameters

    def lora_parameters(self, rank: int) -> int:
        """Parameters of LoRA adapters of ``rank`` on all matrices: r * (in + out) each."""
        return self.layers * rank * sum(rows + columns for rows, columns in self.projections)


def read_shape(text: str, *, what: str = "config.json") -> ModelShape:
    """Return the shape in a model's configuration; a multimodal one's language part. Raise `UsageError` naming what it lacks."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"{what} is not JSON: {error}", hints=["give the config.json of a model, or its folder"], code="bad-config"
        ) from error
    if not isinstance(config, dict):
        raise UsageError(
            f"{what} is not a model's configuration", hints=["give the config.json of a model, or its folder"], code="bad-config"
        )
    inner = config.get("text_config") or config.get("llm_config")
    return _shape({**config, **inner} if isinstance(inner, dict) else config, config, what)


def _shape(config: dict[str, Any], outer: dict[str, Any], what: str) -> ModelShape:
    known = _architecture(config, what)
    config = {**known.defaults, **{name: value for name, value in config.items() if value is not None}}
    hidden = _number(config, what, "hidden_size", "n_embd", "d_model")
    heads = _number(config, what, "num_attention_heads", "n_head")
    experts = _number(config, what, known.experts) if known.experts else 0
    width = _number(config, what, "intermediate_size", "n_inner", "ffn_dim", default=4 * hidden)
    vision, uncounted = _vision(outer)
    return ModelShape(
        hidden=hidden,
        layers=_number(config, what, "num_hidden_layers", "n_layer"),
        heads=heads,
        kv_heads=_number(config, what, "num_key_value_heads", default=heads),
        head_dim=_number(config, what, "head_dim", default=hidden // heads),
        intermediate=width,
        vocabulary=_number(config, what, "vocab_size"),
        tied=_tied(config, outer, known),
        gates=known.gates,
        experts=experts,
        expert_intermediate=_number(config, what, "moe_intermediate_size", default=width) if experts else 0,
        shared_intermediate=_number(config, what, known.shared, default=0) if known.shared else 0,
        vision=vision,
        uncounted=uncounted,
    )


def _architecture(config: dict[str, Any], what: str) -> Architecture:
    """The known type of a configuration. Raise `UsageError` where it is none, or where its layers are not all alike."""
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UsageError(
            f"{what} states no model_type", hints=["give the config.json as its publisher wrote it"], code="bad-config"
        )
    known = KNOWN.get(kind)
    if known is None:
        raise UsageError(
            f"{what} is of the type {kind!r}, whose parameters cannot be counted here",
            why="without its layers known, any number would be a guess",
            hints=[f"known types: {', '.join(sorted(KNOWN))}"],
            code="unknown-model",
        )
    for name, value in known.regular.items():
        if config.get(name, value) not in (value, None):
            raise UsageError(
                f"{what} has {name} = {config[name]!r}: some of its layers differ from the rest",
                why=f"models of the type {kind} are counted with {name} = {value!r} only",
                hints=["`provision doctor --memory` without --model shows what a run really holds"],
                code="unknown-model",
            )
    return known


def _tied(config: dict[str, Any], outer: dict[str, Any], known: Architecture) -> bool:
    """Whether head and embeddings are one table; a multimodal configuration says it inside, outside, or not at all."""
    for said in (config.get("tie_word_embeddings"), outer.get("tie_word_embeddings")):
        if isinstance(said, bool):
            return said
    return known.tied


def _vision(outer: dict[str, Any]) -> tuple[int, tuple[str, ...]]:
    found, uncounted = 0, []
    vision = outer.get("vision_config")
    if isinstance(vision, dict):
        count = tower_parameters(vision, str(outer.get("model_type")))
        found = count or 0
        uncounted += [] if count else [f"the vision tower ({vision.get('model_type') or 'of unknown type'})"]
    if isinstance(outer.get("audio_config"), dict):
        uncounted.append("the audio tower")
    return found, tuple(uncounted)


def _number(config: dict[str, Any], what: str, *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**9:
            return value
    if default is None:
        raise UsageError(
            f"{what} states no {names[0]}", hints=["give the config.json of a causal language model"], code="bad-config"
        )
    return default


def find_config(model: str, home: Path) -> Path:
    """Return the config.json that ``model`` means: a file, a folder, or a repository name in the Hugging Face cache under ``home``.

    Nothing is fetched. Raise `UsageError` where there is none.
    """
    given = Path(model).expanduser()
    candidates = [given, given / "config.json"]
    if model.count("/") == 1 and not model.startswith((".", "/", "~")):
        snapshots = home / "hub" / f"models--{model.replace('/', '--')}" / "snapshots"
        candidates += sorted(snapshots.glob("*/config.json"))
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        hints = ["give the path of its config.json", "or a name as in the Hugging Face cache, org/model, already downloaded"]
        raise UsageError(f"there is no config.json for {model!r} on this machine", hints=hints, code="no-config")
    return found


def load_shape(model: str, home: Path) -> ModelShape:
    """Return the shape of ``model`` (see `find_config`). Raise `UsageError` where it cannot be read."""
    path = find_config(model, home)
    try:
        with path.open("rb") as file:
            text = file.read(CONFIG_LIMIT).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}",
            hints=["give the config.json of a model, or its folder"],
            code="no-config",
        ) from error
    return read_shape(text, what=str(path))
