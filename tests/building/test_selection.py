"""What is selected is compiled, and everything else has a stand-in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.building.releases import RELEASES, Release, find_release
from provisioner.building.selection import Direction, all_kernels, choose, for_model, kernel_dim, normalize, preset, select
from provisioner.errors import UsageError
from provisioner.planning.values import DTYPES, FEATURES, KernelSelection

NEWEST = find_release("2.8.3.post2")
TURING = find_release("1.0.9")

LLAMA_3_8B: dict[str, Any] = {"hidden_size": 4096, "num_attention_heads": 32, "torch_dtype": "bfloat16", "attention_dropout": 0.0}

selections = st.builds(
    KernelSelection,
    st.just("custom"),
    st.lists(st.integers(1, 128), min_size=1, max_size=4).map(tuple),
    st.lists(st.sampled_from(DTYPES), min_size=1).map(tuple),
    st.lists(st.sampled_from(FEATURES)).map(tuple),
)


@given(st.sampled_from(RELEASES), selections)
def test_every_kernel_is_either_compiled_or_answered_by_a_stub(release: Release, kernels: KernelSelection) -> None:
    chosen = select(release, kernels)
    assert sorted([*chosen.compiled, *chosen.stubbed, *chosen.forwarded]) == sorted(all_kernels(release))
    assert all(kernel.direction is Direction.SPLIT for kernel in chosen.forwarded)


@given(st.sampled_from(RELEASES), selections)
def test_every_head_dim_asked_for_is_served_by_a_compiled_kernel(release: Release, kernels: KernelSelection) -> None:
    compiled = {kernel.head_dim for kernel in select(release, kernels).compiled}
    assert {kernel_dim(release, dim) for dim in kernels.head_dims} <= compiled


@given(st.sampled_from(RELEASES), selections)
def test_selecting_twice_changes_nothing(release: Release, kernels: KernelSelection) -> None:
    once = normalize(release, kernels)
    assert normalize(release, once) == once


def test_full_is_every_unit_of_the_sdist() -> None:
    assert len(select(NEWEST, preset("full", NEWEST)).compiled) == 72
    assert len(select(find_release("2.6.3"), preset("full", find_release("2.6.3"))).compiled) == 84
    assert len(select(TURING, preset("full", TURING)).compiled) == 8
    assert select(NEWEST, preset("full", NEWEST)).defines == ()
    assert select(NEWEST, preset("full", NEWEST)).stubbed == ()


def test_a_preset_means_what_the_release_has() -> None:
    older = find_release("2.7.4.post1")
    planned = KernelSelection("full")  # as a plan states it, without regard to the release
    assert normalize(older, planned).head_dims == older.head_dims
    assert normalize(TURING, KernelSelection("unsloth")).head_dims == (64, 128)


def test_one_head_dim_and_one_dtype_are_six_units() -> None:
    chosen = select(NEWEST, KernelSelection("custom", (128,), ("bf16",), FEATURES))
    assert [kernel.unit(NEWEST).rpartition("/")[2] for kernel in chosen.compiled] == [
        "flash_fwd_hdim128_bf16_sm80.cu",
        "flash_fwd_hdim128_bf16_causal_sm80.cu",
        "flash_bwd_hdim128_bf16_sm80.cu",
        "flash_bwd_hdim128_bf16_causal_sm80.cu",
        "flash_fwd_split_hdim128_bf16_sm80.cu",
        "flash_fwd_split_hdim128_bf16_causal_sm80.cu",
    ]


def test_a_feature_left_out_is_refused_through_upstreams_own_macro() -> None:
    chosen = select(NEWEST, preset("unsloth", NEWEST))
    assert chosen.defines == ("FLASHATTENTION_DISABLE_DROPOUT", "FLASHATTENTION_DISABLE_ALIBI")


def test_without_backward_no_backward_unit_is_compiled() -> None:
    chosen = select(NEWEST, KernelSelection("custom", (64,), ("fp16",), ("varlen",)))
    assert all(kernel.direction is not Direction.BACKWARD for kernel in chosen.compiled)
    assert "FLASHATTENTION_DISABLE_BACKWARD" in chosen.defines


def test_variable_lengths_cannot_be_left_out() -> None:
    assert "varlen" in normalize(NEWEST, KernelSelection("custom", (64,), ("fp16",), ())).features


def test_a_head_dim_between_two_kernels_takes_the_next_one_upwards() -> None:
    assert normalize(NEWEST, KernelSelection("custom", (80, 72), ("fp16",))).head_dims == (96,)


@pytest.mark.parametrize("dims", [(257,), (0,), ()])
def test_a_head_dim_without_kernels_is_refused(dims: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        select(NEWEST, KernelSelection("custom", dims, ("bf16",)))


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="fp8"):
        select(NEWEST, KernelSelection("custom", (64,), ("fp8",)))
    with pytest.raises(UsageError, match="rope"):
        select(NEWEST, KernelSelection("custom", (64,), ("fp16",), ("rope",)))
    with pytest.raises(UsageError):
        preset("everything", NEWEST)


def test_naming_head_dims_keeps_the_rest_of_the_preset() -> None:
    chosen = choose(NEWEST, preset("unsloth", NEWEST), head_dims=(128,))
    assert chosen.preset == "custom"
    assert chosen.head_dims == (128,)
    assert "softcap" in chosen.features


def test_training_needs_no_cache_kernels_and_asking_for_them_adds_them() -> None:
    base = preset("unsloth", NEWEST)
    assert not any(kernel.direction is Direction.SPLIT for kernel in select(NEWEST, base).compiled)
    asked = choose(NEWEST, base, features=(*base.features, "kvcache"))
    assert sum(kernel.direction is Direction.SPLIT for kernel in select(NEWEST, asked).compiled) == 16


def test_for_a_llama_config_head_dim_128_in_bf16_without_extras_is_chosen() -> None:
    assert for_model(LLAMA_3_8B) == KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen"))


@pytest.mark.parametrize(
    ("config", "dims", "features"),
    [
        pytest.param(
            {"head_dim": 256, "attn_logit_softcapping": 50.0, "sliding_window": 4096}, (256,), {"local", "softcap"}, id="gemma2"
        ),
        pytest.param({"head_dim": 128, "sliding_window": 4096, "use_sliding_window": False}, (128,), set(), id="qwen2"),
        pytest.param({"n_embd": 768, "n_head": 12, "attn_pdrop": 0.1}, (64,), {"dropout"}, id="gpt2"),
        pytest.param({"hidden_size": 4544, "num_attention_heads": 71, "alibi": True}, (64,), {"alibi"}, id="falcon"),
        pytest.param(
            {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "hidden_size": 7168, "num_attention_heads": 128},
            (192,),
            set(),
            id="mla",
        ),
        pytest.param(
            {"text_config": {"head_dim": 128}, "vision_config": {"hidden_size": 1152, "num_attention_heads": 16}},
            (72, 128),
            set(),
            id="vision",
        ),
    ],
)
def test_for_model_reads_what_each_family_of_configs_states(
    config: dict[str, Any], dims: tuple[int, ...], features: set[str]
) -> None:
    chosen = for_model(config)
    assert chosen.head_dims == dims
    assert set(chosen.features) - {"backward", "varlen"} == features | ({"uneven"} if 72 in dims else set())


def test_a_config_without_head_dims_is_refused() -> None:
    with pytest.raises(UsageError, match="head dim"):
        for_model({"model_type": "mamba"})


def test_a_model_saved_in_float32_gets_both_half_precisions() -> None:
    assert for_model({"head_dim": 64, "torch_dtype": "float32"}).dtypes == DTYPES


@pytest.mark.parametrize("part", ["model_type", "text_config"])
def test_a_model_with_attention_sinks_is_refused_before_anything_is_compiled(part: str) -> None:
    """transformers drops the sinks of a flash-attn that knows none, and refuses such an implementation for gpt_oss."""
    inner = {"model_type": "gpt_oss", "hidden_size": 2880, "num_attention_heads": 64, "head_dim": 64}
    with pytest.raises(UsageError, match="gpt_oss") as caught:
        for_model(inner if part == "model_type" else {"model_type": "some_vision", part: inner})
    assert "sinks" in (caught.value.why or "")


def test_encoder_and_decoder_may_have_heads_of_their_own() -> None:
    config = {"model_type": "whisper", "d_model": 1280, "encoder_attention_heads": 20, "decoder_attention_heads": 10}
    assert for_model(config).head_dims == (64, 128)


@pytest.mark.parametrize("head_dim", [True, "128", 0, -64, None, 64.0])
def test_what_is_no_number_is_not_taken_for_a_head_dim(head_dim: object) -> None:
    with pytest.raises(UsageError, match="no head dim"):
        for_model({"head_dim": head_dim})


def test_a_head_dim_between_two_kernels_brings_what_computes_it() -> None:
    """Upstream's host code refuses it at run time when UNEVEN_K is disabled (flash_api.cpp of 2.8.3.post2)."""
    asked = KernelSelection("custom", (100,), ("bf16",), ("backward", "varlen"))
    assert "FLASHATTENTION_DISABLE_UNEVEN_K" not in select(NEWEST, asked).defines
    exact = KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen"))
    assert "FLASHATTENTION_DISABLE_UNEVEN_K" in select(NEWEST, exact).defines
    older = KernelSelection("custom", (160,), ("bf16",), ("backward", "varlen"))  # 2.7.4 has kernels of that size, 2.8 has not
    assert "uneven" in normalize(NEWEST, older).features
    assert "uneven" not in normalize(find_release("2.7.4.post1"), older).features


def test_what_1_0_9_never_had_is_refused_where_it_was_asked_for() -> None:
    unsloth = preset("unsloth", TURING)
    assert "local" not in normalize(TURING, choose(TURING, unsloth)).features
    assert choose(TURING, unsloth, head_dims=(64,)).head_dims == (64,)
    with pytest.raises(UsageError, match="no local"):
        choose(TURING, unsloth, features=("backward", "local"))
    mistral = for_model({"head_dim": 128, "sliding_window": 4096})
    with pytest.raises(UsageError, match="no local"):
        choose(TURING, mistral)
