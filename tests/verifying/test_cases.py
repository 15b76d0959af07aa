"""The list of cases: everything claimed is computed, everything else must be refused, and the count fits the time."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.capability import ComputeCapability
from provisioner.verifying.child.cases import Case, build_cases
from provisioner.verifying.devices import visible_entries
from provisioner.verifying.expectation import Expectation, on_device, read_provenance, settle, silently_wrong
from provisioner.verifying.verify import needs_jit

OPTIONS = {"causal", "window_size", "softcap", "alibi_slopes", "dropout_p"}
CALLS_2 = {
    **dict.fromkeys(("func", "qkvpacked", "kvpacked", "varlen", "varlen_qkvpacked", "varlen_kvpacked"), OPTIONS),
    "kvcache": {"causal", "block_table", "num_splits"},
}
CALLS_1 = {key: {"causal", "dropout_p"} for key in ("varlen", "varlen_qkvpacked", "varlen_kvpacked")}
ALL = settle(Expectation(), versions={"flash-attn": "2.8.3"}, provenance=None)


def cases(expectation: Expectation, mode: str = "quick", *, generation: int = 2) -> list[Case]:
    expect: dict[str, Any] = {
        name: getattr(expectation, name)
        for name in ("head_dims", "backward_head_dims", "dtypes", "features", "foreign", "forward_with_dropout")
    }
    calls = CALLS_2 if generation == 2 else CALLS_1
    return build_cases({**expect, "grouped": generation == 2}, calls, generation=generation, mode=mode)


@pytest.mark.parametrize("mode", ["quick", "full"])
def test_every_claimed_kernel_is_computed_forward_and_backward(mode: str) -> None:
    computed = {(case.dtype, case.head_dim, case.causal) for case in cases(ALL, mode) if case.backward and case.refused is None}
    kernels = {
        (dtype, dim, causal) for dtype in ("fp16", "bf16") for dim in (32, 64, 96, 128, 192, 256) for causal in (False, True)
    }
    assert kernels <= computed


def test_the_counts_fit_the_time_that_each_mode_may_take() -> None:
    assert 60 < len(cases(ALL)) < 100
    assert 500 < len(cases(ALL, "full")) < 900


def test_names_are_unique_since_they_seed_the_inputs() -> None:
    for mode in ("quick", "full"):
        names = [case.name for case in cases(ALL, mode)]
        assert len(names) == len(set(names))


def test_what_the_provenance_does_not_list_must_be_refused() -> None:
    record = {
        "selection": {"head_dims": [64, 128], "dtypes": ["fp16"], "features": ["backward", "varlen"]},
        "inputs": {"archs": ["sm_90"]},
    }
    settled = settle(Expectation(), versions={"flash-attn": "2.8.3.post2"}, provenance=record)
    assert settled.archs == ("sm_90",)
    refused = {case.refused for case in cases(settled) if case.refused}
    assert {"head dim 32", "head dim 96", "head dim 192", "head dim 256", "bf16", "fp32"} <= refused
    assert {"local", "softcap", "alibi", "dropout", "uneven", "kvcache"} <= refused
    assert not any(case.softcap or case.alibi or case.dropout for case in cases(settled) if case.refused is None)


def test_a_release_before_softcap_is_not_asked_for_it() -> None:
    assert "softcap" not in (settle(Expectation(), versions={"flash-attn": "2.5.8"}, provenance=None).features or ())


def test_generation_1_is_called_by_its_own_functions_alone() -> None:
    settled = settle(Expectation(), versions={"flash-attn": "1.0.9"}, provenance=None)
    assert {case.call for case in cases(settled, generation=1)} == set(CALLS_1)
    assert {case.head_dim for case in cases(settled, generation=1)} >= {32, 64, 128}


def test_kernels_for_turing_that_run_as_ptx_on_a_newer_gpu_are_held_to_what_turing_has() -> None:
    settled = settle(Expectation(archs=("compute_75",)), versions={"flash-attn": "1.0.9"}, provenance=None)
    here = on_device(settled, ComputeCapability(9, 0), "1.0.9")
    assert here.foreign
    assert here.dtypes == ("fp16",)
    assert here.backward_head_dims == (32, 64)
    assert not any(case.refused in ("bf16", "backward of head dim 128") for case in cases(here, generation=1))


@pytest.mark.parametrize(
    ("version", "capability", "backward", "with_dropout"),
    [
        ("2.8.3+cu12torch2.9cxx11abiTRUE", "9.0", True, True),
        ("2.8.3", "8.7", True, True),
        ("2.8.3", "8.9", True, False),
        ("2.8.3.post2", "12.0", True, False),
        ("2.5.8", "8.6", True, False),
        ("2.5.4", "8.6", False, False),
        ("2.5.4", "8.0", True, True),
    ],
)
def test_head_dim_256_goes_backward_only_where_a_release_has_kernels_for_the_gpus_shared_memory(
    version: str, capability: str, backward: bool, with_dropout: bool
) -> None:
    settled = settle(Expectation(), versions={"flash-attn": version}, provenance=None)
    wanted = cases(on_device(settled, ComputeCapability.parse(capability), version), "full")
    large = [case for case in wanted if case.head_dim == 256 and case.refused is None and case.call == "func"]
    assert {case.backward for case in large if not case.dropout} == {backward}
    assert {case.backward for case in large if case.dropout} == {with_dropout}
    assert any(case.refused == "backward of head dim 256" for case in wanted) is not backward


def test_gradients_that_no_kernel_writes_are_warned_of_from_the_release_on_that_says_nothing() -> None:
    def warning(version: str, capability: str) -> str | None:
        settled = settle(Expectation(), versions={"flash-attn": version}, provenance=None)
        return silently_wrong(on_device(settled, ComputeCapability.parse(capability), version), version)

    assert "head dim 256 with dropout" in (warning("2.8.3", "8.9") or "")
    assert warning("2.6.3", "8.9") is warning("2.8.3", "9.0") is warning("1.0.9", "8.6") is None


@pytest.mark.parametrize("text", ["[1]", "{", '{"selection": ["x"]}', '{"inputs": 3}', None])
def test_a_record_of_another_shape_is_no_record(text: str | None) -> None:
    assert read_provenance(text) is None


def test_devices_are_shown_as_the_user_named_them() -> None:
    assert visible_entries(1, None) == (None,)
    assert visible_entries(2, None) == ("0", "1")
    assert visible_entries(2, "3,1") == ("3", "1")
    assert visible_entries(1, "MIG-6a7b") == ("MIG-6a7b",)


def test_only_ptx_means_that_the_driver_compiles_first_and_fa4_always_compiles() -> None:
    assert needs_jit(("compute_75",), {})
    assert not needs_jit(("sm_90", "compute_90"), {"flash-attn": "2.8.3"})
    assert not needs_jit((), {})
    assert needs_jit((), {"flash-attn-4": "4.0.0b36"})


ADAPTER = {
    "adapter": "turing109",
    "inputs": {"archs": ["compute_75"]},
    "selection": {
        "head_dims": [32, 64, 96, 128, 192, 256],
        "dtypes": ["fp16", "bf16"],
        "features": ["backward", "varlen", "local", "uneven", "dropout", "kvcache"],
    },
}
"""What the adapter's wheel says of itself (provenance.json)."""


def test_an_adapter_is_held_to_its_own_claims_on_each_gpu() -> None:
    settled = settle(Expectation(), versions={"flash-attn": "2.8.3+turing109"}, provenance=ADAPTER)
    turing = on_device(settled, ComputeCapability(7, 5), "2.8.3+turing109")
    assert turing.dtypes == ("fp16",)
    wanted = cases(turing)
    assert {case.head_dim for case in wanted if case.backward and case.refused is None} >= {32, 64, 96, 128, 192, 256}
    assert {case.refused for case in wanted if case.refused} == {"softcap", "alibi", "bf16", "fp32", "4 query heads over 3"}
    assert any(case.call == "kvcache" for case in wanted)
    hopper = on_device(settled, ComputeCapability(9, 0), "2.8.3+turing109")
    assert hopper.dtypes == ("fp16", "bf16"), "PyTorch's kernels take what Turing's do not"
    assert not hopper.foreign
