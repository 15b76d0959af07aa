"""GPUs as the PCI bus shows them: a card without a working driver is there all the same.

This probe comes last of those that look for GPUs. What it finds when nobody else found a GPU is a fault, stated as such:
a driver that does not run, a card handed to a virtual machine, or a container that was started without its GPUs.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from provisioner.machine.facts import Fault, Gpu, Machine
from provisioner.machine.system import System

DEVICES = "/sys/bus/pci/devices"
NVIDIA, AMD = "0x10de", "0x1002"
DISPLAY_CLASSES = ("0x0300", "0x0302", "0x0380")  # VGA, 3D and other display controllers (PCI code and ID assignment)
ACCELERATOR_CLASS = "0x1200"
NAME_LISTS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")

_BRACKETS = re.compile(r"\[([^\]]+)\]")


class PciGpu(NamedTuple):
    """A display controller or accelerator on the bus; ``driver`` is the kernel driver bound to it, such as ``nouveau``."""

    address: str
    vendor: str
    device: str
    driver: str | None


def pci_gpus(system: System, vendor: str) -> tuple[PciGpu, ...]:
    """Return the vendor's GPUs on the bus, by address."""
    found = []
    for path in system.glob(DEVICES, "*"):
        if _word(system, f"{path}/vendor") != vendor:
            continue
        if _word(system, f"{path}/class")[:6] not in (*DISPLAY_CLASSES, ACCELERATOR_CLASS):
            continue
        driver = os.path.basename(system.realpath(f"{path}/driver")) if system.exists(f"{path}/driver") else None
        found.append(PciGpu(os.path.basename(path), vendor, _word(system, f"{path}/device"), driver))
    return tuple(found)


def _word(system: System, path: str) -> str:
    return (system.read(path) or "").strip().lower()


def facts(system: System, known: Machine) -> Machine:
    """Return GPUs that only the bus knows, with the fault that keeps them from working."""
    if known.gpus:
        return Machine()
    if cards := pci_gpus(system, NVIDIA):
        return _unusable(system, known, cards)
    if system.exists("/dev/kfd"):  # the compute interface of AMD's driver; without it a Radeon is only a display
        return Machine(gpus=tuple(_gpu(system, card, "amd") for card in pci_gpus(system, AMD)))
    return Machine()


def _unusable(system: System, known: Machine, cards: tuple[PciGpu, ...]) -> Machine:
    """Return the facts about NVIDIA cards that neither NVML nor nvidia-smi nor /proc offered."""
    shown = ", ".join(f"{card.address} ({card.device}, kernel driver {card.driver or 'none'})" for card in cards)
    explained = {fault.code for fault in known.faults}
    if known.platform.container and not system.glob("/dev", "nvidia[0-9]*"):
        detail = f"the host has an NVIDIA GPU, but this {known.platform.container} container was started without it: {shown}"
        return Machine(faults=(Fault("no-gpu", detail),))
    gpus = tuple(_gpu(system, card, "nvidia") for card in cards)
    if explained & {"driver-lib-mismatch", "driver-not-running", "cuda-unavailable", "gpu-lost"}:
        return Machine(gpus=gpus)
    return Machine(gpus=gpus, faults=(Fault("driver-not-running", f"NVIDIA GPU on the PCI bus, no working driver: {shown}"),))


def _gpu(system: System, card: PciGpu, vendor: str) -> Gpu:
    return Gpu(name=_marketing_name(system, card), source="pci", vendor=vendor)


def _marketing_name(system: System, card: PciGpu) -> str | None:
    """Return the card's name from the system's list of PCI ids, None where the list is absent or does not know it.

    The list has chips with the products in brackets: ``AD102 [GeForce RTX 4090]`` gives ``GeForce RTX 4090``.
    """
    vendor, device = card.vendor[2:], card.device[2:]
    if not re.fullmatch(r"[0-9a-f]{4}", device):
        return None
    entry = rf"\n{vendor}  [^\n]*\n(?:[\t#][^\n]*\n)*?\t{device}  ([^\n]+)".encode()
    for path in NAME_LISTS:
        if (name := system.search(path, entry)) is not None:
            product = _BRACKETS.search(name)
            return product[1] if product else name.strip()
    return None
