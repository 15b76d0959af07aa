"""Jetson boards: the L4T release, and the GPU that is part of the chip (not on PCI, often unknown to NVML)."""

from __future__ import annotations

import re

from provisioner.machine.facts import Gpu, Machine, Platform
from provisioner.machine.system import System

RELEASE = "/etc/nv_tegra_release"
DEVICE_TREE = "/proc/device-tree"

CAPABILITIES = {
    # chip in the device tree: compute capability (the same values as the knowledge table of GPUs has for these boards, compared 2026-11-24)
    "tegra210": "5.3",
    "tegra186": "6.2",
    "tegra194": "7.2",
    "tegra234": "8.7",
    "tegra264": "11.0",
}

_RELEASE = re.compile(r"R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3})*)")


def facts(system: System, known: Machine) -> Machine:
    """Return the L4T release such as ``36.4.3`` and the chip's GPU; its memory is the board's, so none is stated."""
    match = _RELEASE.search(system.read(RELEASE) or "")
    chip = chip_of(system.read(f"{DEVICE_TREE}/compatible") or "")
    jetson = f"{match[1]}.{match[2]}" if match else None
    if chip is None:
        return Machine(platform=Platform(jetson=jetson))
    model = (system.read(f"{DEVICE_TREE}/model") or "").replace("\0", "").strip()
    gpu = Gpu(name=model or chip, compute_capability=CAPABILITIES[chip], source="device-tree")
    return Machine(gpus=(gpu,), platform=Platform(jetson=jetson))


def chip_of(compatible: str) -> str | None:
    """Return the Tegra chip that a device tree's ``compatible`` list names, e.g. ``tegra234``; None for any other board."""
    names = {entry.partition(",")[2] for entry in compatible.split("\0") if entry.startswith("nvidia,")}
    return next((chip for chip in CAPABILITIES if chip in names), None)
