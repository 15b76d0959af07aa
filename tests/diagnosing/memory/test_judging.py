"""Memory reports lead to the findings that their numbers mean."""

from __future__ import annotations

import pytest

from provisioner.diagnosing.findings import Severity
from provisioner.diagnosing.memory import judging
from provisioner.diagnosing.memory.devices import Device, Holder
from provisioner.diagnosing.memory.observed import Observed, Segment, TorchDevice, TorchMemory
from provisioner.diagnosing.memory.shape import read_shape
from provisioner.diagnosing.memory.training import Training, Weights, sinks
from tests.diagnosing.memory.models import LLAMA_31_8B, LLAMA_33_70B

GIB = 2**30


def torch(allocated: float, segments: list[tuple[float, float, float]], **settings: object) -> Observed:
    """A process whose segments are (total, allocated, largest free) in GiB."""
    own = tuple(Segment(0, int(a * GIB), int(b * GIB), int(c * GIB)) for a, b, c in segments)
    device = TorchDevice(0, int(allocated * GIB), sum(one.total for one in own), segments=own, segments_total=len(own))
    return Observed(7, 0.0, torch=TorchMemory("2.11.0", devices=(device,), settings=dict(settings)))


def gpu(*holders: Holder, used: float = 0, total: float = 80) -> Device:
    return Device(0, "H100", int(total * GIB), int(used * GIB), int((total - used) * GIB), holders=holders)


def codes(device: Device) -> list[str]:
    return [one.code for one in judging.judge((device,))]


def test_unused_memory_in_crumbs_is_fragmentation_and_in_one_piece_is_a_cache() -> None:
    crumbs = torch(10, [(2.0, 1.0, 0.25)] * 10)
    whole = torch(10, [(10, 10, 0), (10, 0, 10)])
    assert codes(gpu(Holder(7, 21 * GIB, observed=crumbs), used=21)) == ["memory-fragmented"]
    assert codes(gpu(Holder(7, 21 * GIB, observed=whole), used=21)) == ["memory-cached"]


def test_expandable_segments_are_not_advised_where_they_are_on() -> None:
    def advice(**settings: object) -> str:
        process = torch(10, [(2.0, 1.0, 0.25)] * 10, **settings)
        (found,) = judging.judge((gpu(Holder(7, 21 * GIB, observed=process), used=21),))
        assert found.fix is not None
        return found.fix.text

    assert "on already" in advice(expandable_segments=True)
    assert "import unsloth before torch" in advice(expandable_segments=False)


def test_memory_in_no_visible_process_is_said_to_be_so() -> None:
    assert codes(gpu(used=30)) == ["memory-of-unseen-processes"]
    assert codes(gpu(Holder(1, 29 * GIB, "root", "python"), used=30)) == []
    assert codes(gpu(used=1)) == []


def test_several_idle_contexts_are_counted() -> None:
    idle = tuple(Holder(pid, GIB // 2, "ana", "python -m ipykernel_launcher") for pid in (5, 6, 7))
    (found,) = judging.judge((gpu(*idle, used=1.5),))
    assert found.code == "cuda-contexts"
    assert "1.5 GiB" in found.title
    assert "ana" in found.evidence[0]


def test_a_wrong_setting_of_somebody_elses_process_is_named_with_the_process() -> None:
    holder = Holder(41, 5 * GIB, "ben", "python train.py", {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segment:True"})
    (found,) = judging.judge((gpu(holder, used=5),))
    assert found.code == "allocator-setting-wrong"
    assert "process 41" in found.title


@pytest.mark.parametrize(
    ("config", "run", "total", "code", "largest"),
    [
        (LLAMA_33_70B, Training(), 24, "run-exceeds-memory", "weights of all layers"),
        (
            LLAMA_31_8B,
            Training(batch=8, length=8192, rank=0, weights=Weights.SIXTEEN_BIT),
            80,
            "run-exceeds-free-memory",
            "optimizer",
        ),
        (LLAMA_31_8B, Training(), 80, None, ""),
    ],
)
def test_a_run_that_does_not_fit_is_told_its_largest_sinks(
    config: str, run: Training, total: int, code: str | None, largest: str
) -> None:
    found = list(
        judging.predicted(
            sinks(read_shape(config), run), (gpu(used=total * 0.4 if code == "run-exceeds-free-memory" else 0, total=total),)
        )
    )
    assert [one.code for one in found] == ([code] if code else [])
    if code == "run-exceeds-memory":
        assert found[0].severity is Severity.ERROR
    assert not code or any(largest in quote for quote in found[0].evidence)


def test_a_process_that_ended_out_of_memory_is_reported_with_its_numbers() -> None:
    from dataclasses import replace

    one = replace(torch(10, [(2.0, 1.0, 0.25)] * 10), error="CUDA out of memory. Tried to allocate 2.00 GiB.")
    found = judging.ended(one)
    assert found.code == "cuda-out-of-memory"
    assert "10.0 GiB" in found.title
    assert "Tried to allocate" in found.evidence[0]


def test_an_observed_process_that_the_driver_does_not_list_is_shown_by_its_own_figures() -> None:
    from provisioner.diagnosing.memory.devices import with_observed

    (device,) = with_observed((gpu(used=21),), (torch(10, [(2.0, 1.0, 0.25)] * 10),))
    assert [holder.pid for holder in device.holders] == [7]
    assert device.unaccounted == GIB
    assert codes(device) == ["memory-fragmented"]
