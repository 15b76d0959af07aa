"""What a build leaves out is refused by code that stands in for it; upstream's own files are compiled unchanged."""

from __future__ import annotations

from provisioner.building.generated import sources, unused_shapes
from provisioner.building.releases import find_release
from provisioner.building.selection import preset, select
from provisioner.planning.values import KernelSelection

NEWEST = find_release("2.8.3.post2")
ONE = select(NEWEST, KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen")))


def test_without_kvcache_split_calls_go_to_the_plain_kernel_or_are_refused() -> None:
    text = sources(NEWEST, ONE, ("sm_90",))["flash_api.cpp"]
    assert '#include "../src/csrc/flash_attn/flash_api.cpp"' in text
    for only_theirs in ("knew_ptr", "cache_batch_idx", "block_table"):
        assert f"params.{only_theirs} == nullptr" in text
    assert "params.num_splits = 1" in text
    assert "--head-dims 128 --dtypes bf16 --features backward,kvcache,varlen" in text


def test_with_kvcache_upstreams_host_code_is_compiled_as_it_is() -> None:
    chosen = select(NEWEST, KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen", "kvcache")))
    assert "flash_api.cpp" not in sources(NEWEST, chosen, ("sm_90",))
    assert chosen.forwarded == ()


def test_a_unit_for_one_gpu_refuses_the_other_block_shapes() -> None:
    text = sources(NEWEST, ONE, ("sm_90",))["flash_bwd_hdim128_bf16_causal_sm80.cu"]
    assert (
        "run_flash_bwd<Flash_bwd_kernel_traits<128, 64, 64, 8, 4, 2, 2, true, false, cutlass::bfloat16_t>, false, true>" in text
    )
    assert "128, 64, 128, 8, 2, 4, 2, false, false" not in text
    assert text.endswith('#include "../src/csrc/flash_attn/src/flash_bwd_hdim128_bf16_causal_sm80.cu"\n')


def test_code_that_any_gpu_may_run_keeps_every_block_shape() -> None:
    for archs in (("compute_90",), ("sm_80", "sm_90", "sm_100", "compute_120")):
        assert not any(unused_shapes(kernel, NEWEST, ONE, archs) for kernel in ONE.compiled)


def test_releases_whose_templates_were_not_read_keep_every_block_shape() -> None:
    older = find_release("2.7.4.post1")
    assert [name for name in sources(older, select(older, ONE.kernels), ("sm_90",)) if name.endswith(".cu")] == []


def test_a_build_for_every_kind_of_gpu_needs_nothing_of_ours() -> None:
    chosen = select(NEWEST, preset("full", NEWEST))
    assert sources(NEWEST, chosen, ("sm_80", "sm_90", "compute_90")) == {}
