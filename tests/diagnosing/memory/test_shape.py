"""A model's shape is read from its own configuration, wherever that lies, and never from the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.diagnosing.memory.shape import load_shape, read_shape
from provisioner.errors import UsageError
from tests.diagnosing.memory.models import LLAMA_31_8B, QWEN3_14B


def test_the_parameters_of_llama_8b_are_those_that_its_authors_state() -> None:
    assert read_shape(LLAMA_31_8B).parameters == 8_030_261_248


def test_qwen_3_has_heads_wider_than_its_hidden_size_divided_by_their_number() -> None:
    shape = read_shape(QWEN3_14B)
    assert shape.head_dim == 128
    assert shape.parameters == pytest.approx(14.77e9, rel=0.002)


def test_a_multimodal_configuration_is_read_by_its_language_part() -> None:
    outer = {"model_type": "mllama", "text_config": json.loads(LLAMA_31_8B), "vision_config": {"hidden_size": 1280}}
    assert read_shape(json.dumps(outer)) == read_shape(LLAMA_31_8B)


def test_a_mixture_of_experts_counts_all_its_experts() -> None:
    """Qwen3-30B-A3B: 30.5 billion parameters, of which LoRA adapts the attention here."""
    config = {
        "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32, "num_hidden_layers": 48, "num_key_value_heads": 4,
        "head_dim": 128, "vocab_size": 151936, "num_experts": 128, "moe_intermediate_size": 768, "tie_word_embeddings": False,
    }  # fmt: skip
    assert read_shape(json.dumps(config)).parameters == pytest.approx(30.5e9, rel=0.01)


def test_a_quantised_checkpoint_says_so() -> None:
    config = {**json.loads(LLAMA_31_8B), "quantization_config": {"load_in_4bit": True}}
    assert read_shape(json.dumps(config)).four_bit
    assert not read_shape(LLAMA_31_8B).four_bit


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"hidden_size": true}', '{"hidden_size": 4096}', '{"hidden_size": -1, "n_head": 2}']
)
def test_what_is_no_configuration_is_refused_with_what_it_lacks(text: str) -> None:
    with pytest.raises(UsageError):
        read_shape(text)


def test_a_name_is_looked_up_in_the_cache_of_downloaded_models(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "models--meta--llama" / "snapshots" / "0e9e39f"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(LLAMA_31_8B)
    expected = read_shape(LLAMA_31_8B)
    assert load_shape("meta/llama", tmp_path) == expected
    assert load_shape(str(snapshot), tmp_path) == expected
    assert load_shape(str(snapshot / "config.json"), tmp_path) == expected
    with pytest.raises(UsageError, match=r"no config\.json"):
        load_shape("meta/other", tmp_path)
