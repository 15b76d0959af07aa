"""What NVML's raw answers mean, device by device."""

from __future__ import annotations

import pytest

from provisioner.machine.facts import Machine
from provisioner.machine.nvml import GPU_IS_LOST, NO_PERMISSION, NvmlDevice, NvmlReading, facts
from provisioner.machine.system import LiveSystem

A100 = NvmlDevice("NVIDIA A100-SXM4-80GB", (8, 0), 80 * 2**30)
SHUT, LOST = (
    NvmlDevice(error=text, error_code=code)
    for text, code in (("Insufficient Permissions", NO_PERMISSION), ("GPU is lost", GPU_IS_LOST))
)


class Answering(LiveSystem):
    """This host with these devices."""

    def __init__(self, *devices: NvmlDevice) -> None:
        super().__init__()
        self.devices = devices

    def nvml(self) -> NvmlReading:
        return NvmlReading("550.54.15", 12040, self.devices)


@pytest.mark.parametrize(
    ("devices", "gpus", "faults"),
    [
        ((A100,), 1, []),
        ((SHUT, A100, SHUT), 1, []),  # a job that was given one of three
        ((SHUT, SHUT), 0, ["cuda-unavailable"] * 2),
        ((A100, LOST), 1, ["gpu-lost"]),
    ],
)
def test_gpus_that_a_job_may_not_open_are_others_where_it_has_some(
    devices: tuple[NvmlDevice, ...], gpus: int, faults: list[str]
) -> None:
    found = facts(Answering(*devices), Machine())
    assert (len(found.gpus), [fault.code for fault in found.faults]) == (gpus, faults)
