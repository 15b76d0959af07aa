from __future__ import annotations

import pytest

from provisioner.machine.facts import Gpu, Machine


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("nvml", True),
        ("nvidia-smi", True),
        ("name-guess", True),
        ("device-tree", True),
        ("user", False),
        ("report", False),
        (None, False),
    ],
)
def test_only_a_gpu_that_a_probe_found_can_prove_anything(source: str | None, live: bool) -> None:
    assert Machine(gpus=(Gpu("A100", "8.0", source=source),)).has_live_gpu is live
    assert not Machine().has_live_gpu
