"""Predicted memory lies near what was published, and each sink grows with what it is said to depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.diagnosing.memory.shape import ModelShape, read_shape
from provisioner.diagnosing.memory.training import (
    OPTIMIZERS,
    Checkpointing,
    Loss,
    Training,
    Weights,
    band,
    peak,
    sinks,
    weights,
)
from tests.diagnosing.memory.models import LLAMA_2_7B, LLAMA_31_8B, LLAMA_32_1B, LLAMA_33_70B, QWEN3_14B

GB, GIB = 10**9, 2**30


def size(code: str, shape: ModelShape, run: Training) -> int:
    return next((sink.size for sink in sinks(shape, run) if sink.code == code), 0)


@pytest.mark.parametrize(
    ("config", "four_bit", "sixteen_bit"),
    [
        (LLAMA_31_8B, 5.31, 14.96),
        (LLAMA_2_7B, 3.60, 12.55),
        (LLAMA_32_1B, 0.96, 2.30),
        (LLAMA_33_70B, 36.8, 131.4),
        (QWEN3_14B, 9.25, 27.5),
    ],
)
def test_weights_have_the_size_of_the_published_checkpoints(config: str, four_bit: float, sixteen_bit: float) -> None:
    shape = read_shape(config)
    for kind, expected in ((Weights.FOUR_BIT, four_bit), (Weights.SIXTEEN_BIT, sixteen_bit)):
        held = sum(sink.size for sink in weights(shape, Training(weights=kind)))
        assert held / GIB == pytest.approx(expected, rel=0.01)


def test_rank_16_on_all_matrices_of_llama_8b_is_42_million_parameters() -> None:
    assert read_shape(LLAMA_31_8B).lora_parameters(16) == pytest.approx(41.9e6, rel=0.002)


@pytest.mark.parametrize(
    ("card", "tokens"),
    [(8, 2972), (12, 21848), (16, 40724), (24, 78475), (40, 153977), (48, 191728), (80, 342733)],
)
def test_llama_8b_fills_each_card_at_the_length_that_unsloth_published(card: int, tokens: int) -> None:
    """The README's table for QLoRA of rank 32 with batch size 1: within 6 %, and inside the band that is shown."""
    found = sinks(read_shape(LLAMA_31_8B), Training(length=tokens, rank=32))
    assert peak(found) / GB == pytest.approx(card, rel=0.06)
    low, high = band(found)
    assert low / GB <= card <= high / GB


@pytest.mark.parametrize(("card", "tokens"), [(48, 12106), (80, 89389)])
def test_llama_70b_fills_each_card_at_the_length_that_unsloth_published(card: int, tokens: int) -> None:
    assert peak(sinks(read_shape(LLAMA_33_70B), Training(length=tokens, rank=32))) / GB == pytest.approx(card, rel=0.06)


@pytest.mark.parametrize(("card", "tokens"), [(12, 932), (16, 2551), (24, 5789), (40, 12264), (80, 28454)])
def test_without_unsloth_the_same_model_fills_the_cards_much_sooner(card: int, tokens: int) -> None:
    """The same table's column for Hugging Face with FlashAttention-2: within 20 % (the smallest card is the worst)."""
    run = Training(length=tokens, rank=32, optimizer="adamw_torch", checkpointing=Checkpointing.TORCH, loss=Loss.FULL)
    assert peak(sinks(read_shape(LLAMA_31_8B), run)) / GB == pytest.approx(card, rel=0.20)


@pytest.mark.parametrize(("tokens", "gb"), [(1024, 6), (2048, 7), (4096, 9), (8192, 12), (16384, 19), (32768, 32)])
def test_llama_2_7b_needs_what_llama_factory_measured(tokens: int, gb: int) -> None:
    """LLaMA-Factory's wiki, QLoRA of rank 8 with FlashAttention-2; its figures are whole gigabytes: within 0.5 GB and 12 %."""
    run = Training(length=tokens, rank=8, optimizer="adamw_torch", checkpointing=Checkpointing.TORCH, loss=Loss.FULL)
    assert peak(sinks(read_shape(LLAMA_2_7B), run)) / GB == pytest.approx(gb, rel=0.12, abs=0.5)


def test_full_fine_tuning_of_8b_needs_eight_bytes_a_parameter_in_bfloat16() -> None:
    shape = read_shape(LLAMA_31_8B)
    for optimizer, gib in (("adamw_torch", 60), ("adamw_8bit", 45)):
        run = Training(rank=0, weights=Weights.SIXTEEN_BIT, optimizer=optimizer)
        held = sum(
            sink.size
            for sink in sinks(shape, run)
            if sink.code in ("weights", "embeddings-16bit", "gradients", "optimizer-states")
        )
        assert held / GIB == pytest.approx(gib, rel=0.02)


def test_all_logits_at_once_are_the_largest_sink_of_a_small_model_with_a_large_vocabulary() -> None:
    found = sinks(read_shape(LLAMA_32_1B), Training(batch=4, length=4096, loss=Loss.FULL))
    assert max(found, key=lambda sink: sink.size).code == "logits"
    assert size("logits", read_shape(LLAMA_32_1B), Training(batch=4, length=4096)) <= 4 * GB


def test_activations_and_logits_grow_with_the_tokens_and_weights_do_not() -> None:
    shape = read_shape(LLAMA_31_8B)
    for checkpointing in Checkpointing:
        one, two = (Training(batch=batch, checkpointing=checkpointing, loss=Loss.FULL) for batch in (1, 2))
        for code in ("activations", "logits"):
            assert size(code, shape, two) == pytest.approx(2 * size(code, shape, one), abs=2)
        assert size("weights", shape, one) == size("weights", shape, two)


def test_each_kind_of_checkpointing_saves_something() -> None:
    shape = read_shape(LLAMA_31_8B)
    held = [size("activations", shape, Training(checkpointing=one)) for one in Checkpointing]
    assert held == sorted(held)
    assert held[0] < held[1] < held[2]


def test_eager_attention_grows_with_the_square_of_the_length() -> None:
    shape = read_shape(LLAMA_31_8B)
    assert size("attention-scores", shape, Training(length=8192, eager=True)) == 48 * GIB
    assert size("attention-scores", shape, Training(length=8192)) == 0


def test_vllm_reserves_a_share_of_the_card_whatever_the_number_of_sequences() -> None:
    shape, run = read_shape(LLAMA_31_8B), Training(vllm_share=0.5, card=24 * GIB)
    held = sum(sink.size for sink in weights(shape, run))
    assert size("vllm-kv-cache", shape, run) + held == 12 * GIB
    assert size("vllm-kv-cache", shape, replace(run, vllm_share=0.0)) == 0


def test_a_chunk_of_the_loss_is_not_added_to_a_larger_working_set() -> None:
    shape = read_shape(LLAMA_31_8B)
    for tokens in (512, 65536):
        found = {sink.code: sink for sink in sinks(shape, Training(length=tokens))}
        pair = found["activations"], found["logits"]
        assert sorted(sink.peak for sink in pair) == [False, True]
        assert max(pair, key=lambda sink: sink.size).peak


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
def test_every_optimizer_has_a_size_and_eight_bits_are_less_than_thirty_two(optimizer: str) -> None:
    held = size("optimizer-states", read_shape(LLAMA_31_8B), Training(optimizer=optimizer))
    assert held < size("optimizer-states", read_shape(LLAMA_31_8B), Training(optimizer="adamw_torch")) or "8bit" not in optimizer


def test_pinned_host_memory_is_shown_and_not_counted_as_the_gpus() -> None:
    shape, run = read_shape(LLAMA_31_8B), Training(length=8192)
    pinned = next(sink for sink in sinks(shape, run) if sink.host)
    assert pinned.size == 2 * 32 * 4096 * 8192
    assert peak(sinks(shape, run)) == sum(sink.size for sink in sinks(shape, run) if sink.peak)
    assert not pinned.peak
