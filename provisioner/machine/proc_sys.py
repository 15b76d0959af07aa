"""What the NVIDIA kernel module says through /proc and /sys: the driver that is loaded, whatever libraries lie around."""

from __future__ import annotations

import re

from provisioner.machine.facts import Driver, Gpu, Machine
from provisioner.machine.nvml import driver_version, is_vgpu_name
from provisioner.machine.system import System

PROC = "/proc/driver/nvidia"

_VERSION = re.compile(r"Kernel Module\s+(?:for \S+\s+)?(\d[\d.]*)")
_MODEL = re.compile(r"^Model:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


def proc_facts(system: System, known: Machine) -> Machine:
    """Return the loaded module's version, and the names of its GPUs if this process may open any of them."""
    text = system.read(f"{PROC}/version") or ""
    match = _VERSION.search(text)
    driver = Driver(version=driver_version(match[1]) if match else None)
    gpus = tuple(_gpu(name) for name in _models(system)) if system.glob("/dev", "nvidia[0-9]*") else ()
    return Machine(gpus=gpus, driver=driver)


def sys_facts(system: System, known: Machine) -> Machine:
    """Return the loaded module's version from /sys, which containers see too."""
    return Machine(driver=Driver(version=driver_version((system.read("/sys/module/nvidia/version") or "").strip())))


def _models(system: System) -> list[str]:
    """Return the model of each GPU that the module drives; a name it does not know is ``Unknown``."""
    texts = [system.read(f"{directory}/information") or "" for directory in system.glob(f"{PROC}/gpus", "*")]
    return [match[1] for text in texts if (match := _MODEL.search(text)) and match[1].lower() != "unknown"]


def _gpu(name: str) -> Gpu:
    return Gpu(name=name, partition="vgpu" if is_vgpu_name(name) else None, source="proc")
