"""``nvidia-smi -q -x``: read by its tags, so that an excerpt or a cut document serves as well."""

from __future__ import annotations

import re
from collections.abc import Iterator

from provisioner.machine.facts import Gpu
from provisioner.machine.report.claims import Claim
from provisioner.machine.report.cleaning import CleanText
from provisioner.machine.report.versions import DRIVER

_DRIVER = re.compile(rf"<(?:driver|kmd)_version>\s*({DRIVER})")
_CUDA = re.compile(r"<cuda_(?:umd_)?version>\s*(\d+\.\d+)")
_GPU = re.compile(r"<gpu\b[^>]*>")
_NAME = re.compile(r"<product_name>\s*([^<]+?)\s*</product_name>")
_MEMORY = re.compile(r"<fb_memory_usage>\s*<total>\s*(\d+) MiB")
_MIG = re.compile(r"<current_mig>\s*Enabled")
_MIG_DEVICES = re.compile(r"<mig_devices>.*?(?:</mig_devices>|\Z)", re.DOTALL)
_MODEL = re.compile(r"<current_dm>\s*(WDDM|TCC|MCDM)")


def read(report: CleanText) -> Iterator[Claim]:
    """Yield driver, CUDA and devices of an XML log."""
    if "<product_name>" not in report.text and "<nvidia_smi_log>" not in report.text:
        return
    text = report.text
    if match := _DRIVER.search(text):
        yield Claim("driver.version", match[1], match[0])
    if match := _CUDA.search(text):
        yield Claim("driver.cuda", match[1], match[0])
    gpus = tuple(gpu for part in _GPU.split(text)[1:] if (gpu := _gpu(part)) is not None)
    if gpus:
        yield Claim("gpus", _attached(text, gpus), "nvidia-smi -x")


def _gpu(part: str) -> Gpu | None:
    mig = _MIG.search(part)
    part = _MIG_DEVICES.sub("", part)
    name, memory = _NAME.search(part), _MEMORY.search(part)
    if name is None:
        return None
    return Gpu(name=name[1], memory_mib=int(memory[1]) if memory else None, partition="mig" if mig else None, source="report")


def _attached(text: str, gpus: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    """Repeat the device when only one of ``attached_gpus`` is shown in full: an excerpt of a uniform machine."""
    match = re.search(r"<attached_gpus>\s*(\d+)", text)
    count = int(match[1]) if match else len(gpus)
    if len({gpu.name for gpu in gpus}) == 1 and len(gpus) < count <= 64:
        return gpus + (gpus[-1],) * (count - len(gpus))
    return gpus
