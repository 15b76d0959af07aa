"""A model's shape is read from its own configuration, wherever that lies, and never from the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.diagnosing.memory.shape import load_shape, read_shape
from provisioner.errors import UsageError
from tests.diagnosing.memory.models import COUNTED, LLAMA_31_8B


def test_the_parameters_of_llama_8b_are_those_that_its_authors_state() -> None:
    assert read_shape(LLAMA_31_8B).parameters == 8_030_261_248


@pytest.mark.parametrize(("config", "billions"), COUNTED, ids=[str(config["model_type"]) for config, _ in COUNTED])
def test_the_parameters_are_those_of_transformers_own_models(config: dict[str, object], billions: float) -> None:
    assert read_shape(json.dumps(config)).parameters / 1e9 == pytest.approx(billions, rel=0.008)


def test_a_multimodal_configuration_is_read_by_its_language_part_and_its_tower_is_counted() -> None:
    language = json.loads(LLAMA_31_8B)
    siglip = {"model_type": "siglip_vision_model", "num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304}
    shape = read_shape(json.dumps({"model_type": "llava", "text_config": language, "vision_config": siglip}))
    assert shape.linear_parameters == read_shape(LLAMA_31_8B).linear_parameters
    assert shape.vision == pytest.approx(0.411e9, rel=0.001)
    assert not shape.uncounted


def test_a_tower_of_an_unknown_kind_is_said_not_to_be_counted() -> None:
    config = {"model_type": "llava", "text_config": json.loads(LLAMA_31_8B), "vision_config": {"model_type": "eyes", "depth": 3}}
    assert read_shape(json.dumps(config)).uncounted == ("the vision tower (eyes)",)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"model_type": "deepseek_v3"}, "of the type 'deepseek_v3', whose parameters cannot be counted here"),
        ({"model_type": "mamba"}, "of the type 'mamba'"),
        ({"model_type": "qwen3_moe", "decoder_sparse_step": 2}, "some of its layers differ from the rest"),
        ({"model_type": None}, "states no model_type"),
    ],
)
def test_a_model_that_cannot_be_counted_is_refused_not_guessed(config: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_shape(json.dumps({**json.loads(LLAMA_31_8B), **config}))


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
