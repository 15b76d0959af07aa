"""First stage: does everything import, what is installed, and which devices does torch see."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import platform
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from provisioner.verifying.child.protocol import Ended, Reporter

MODULES = ("torch", "flash_attn", "flash_attn_interface", "flash_attn.cute", "triton", "bitsandbytes", "xformers.ops", "unsloth")
"""In this order: what fails because torch does is then not blamed; unsloth, which patches others, comes last."""

DISTRIBUTIONS = (
    "torch", "flash-attn", "flash-attn-3", "flash-attn-4", "xformers", "triton", "bitsandbytes", "unsloth", "unsloth_zoo",
    "transformers", "trl", "peft", "accelerate", "numpy",
)  # fmt: skip

EXTENSIONS = ("flash_attn_2_cuda", "flash_attn_cuda")

PROVENANCE = "provenance.json"
"""The file in a wheel's dist-info that says which kernels our build put in."""


def run(job: dict[str, Any], reporter: Reporter) -> None:
    """Report versions, import each module that is there or asked for, and list the devices once torch is in.

    Unsloth is imported here only where there is no GPU: elsewhere the finetuning stage does, and it takes 20 s (H100, 2026-11-25).
    Raise `Ended` when torch does not import, since all others would fail for it.
    """
    versions = {name: found for name in DISTRIBUTIONS if (found := installed_version(name)) is not None}
    reporter.emit(
        "software",
        versions={name: version for name, version in versions.items() if version},
        nameless=[name for name, version in versions.items() if not version],
        extensions=_extensions(),
        provenance=_provenance(),
        machine=_machine(),
    )
    modules = [name for name in MODULES if name not in job["skip"] and (_there(name) or name in job["expect"]["imports"])]
    reporter.emit("plan", names=[f"import {name}" for name in modules if name != "unsloth"])
    devices = _report_devices(reporter) if "torch" in job["skip"] else []
    for module in modules:
        if module == "unsloth" and devices and _there(module):
            continue
        refused = "without a GPU" if module == "unsloth" and not devices else None
        body = functools.partial(import_module, module)
        outcome = reporter.check(f"import {module}", f"import {module}", body, refused=refused, refusal="allowed")
        if module == "torch":
            if outcome["status"] == "raised":
                raise Ended("torch does not import")
            devices = _report_devices(reporter)


def _machine() -> dict[str, str]:
    """Return what the numbers were made on: Python, system, C library, and the driver where the kernel states it (WSL's does not)."""
    known = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    known["libc"] = " ".join(platform.libc_ver()).strip()
    with suppress(OSError):
        stated = re.search(r"\d{3}\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version").read_text())
        known["driver"] = stated[0] if stated else ""
    return {name: value for name, value in known.items() if value}


def installed_version(name: str) -> str | None:
    """Return a distribution's version, "" where its metadata are gone (an install was cut off), None where it is not there."""
    try:
        return importlib.metadata.version(name) or ""
    except importlib.metadata.PackageNotFoundError:
        return None
    except (KeyError, OSError):  # what Pythons to come say of metadata without a version, and what the file system says
        return ""


def _provenance() -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.distribution("flash-attn").read_text(PROVENANCE)
    return None


def _extensions() -> list[str]:
    """Return the compiled modules of the attention that is installed: upstream's by their names, others as their package lists them."""
    found: dict[str, None] = {}
    for name in EXTENSIONS:
        with suppress(ImportError, ValueError):
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                found[spec.origin] = None
    for name in ("flash-attn", "flash-attn-3"):
        with suppress(importlib.metadata.PackageNotFoundError):
            distribution = importlib.metadata.distribution(name)
            found |= {str(distribution.locate_file(file)): None for file in distribution.files or () if file.suffix == ".so"}
    return list(found)


def is_there(module: str) -> bool:
    """Say whether a top-level module is there, importing nothing.

    A folder without ``__init__.py`` is not: FA4 alone leaves ``flash_attn`` so, as a half-removed flash-attn does, and neither is flash-attn.
    """
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(module)
        return spec is not None and spec.origin is not None
    return False


def _there(module: str) -> bool:
    """Say whether a module of `MODULES` is there; FA4 is a folder within ``flash_attn``, so it is looked for by its distribution."""
    return installed_version("flash-attn-4") is not None if module == "flash_attn.cute" else is_there(module.partition(".")[0])


def import_module(module: str) -> dict[str, Any]:
    """Import and return the version as ``detail``. Raise what the import raises, `ModuleNotFoundError` too where only a folder is there."""
    loaded = importlib.import_module(module)
    if getattr(loaded, "__file__", None) is None:
        raise ModuleNotFoundError(f"No module named {module!r}: only a folder of that name")
    return {"detail": str(getattr(loaded, "__version__", ""))}


def _report_devices(reporter: Reporter) -> list[dict[str, Any]]:
    """Report the GPUs that CUDA opens, each with its index; ``detail`` says what went wrong with the others, or with all.

    torch counts by NVML, which lists GPUs that CUDA cannot open (a driver that is too old, a lost card) and a MIG host's whole cards: CUDA's
    own count is what there is to use.
    """
    devices: list[dict[str, Any]] = []
    built_for, archs, faults = None, [], []
    try:
        import torch

        built_for, listed = torch.version.cuda, torch.cuda.device_count()
        archs = torch.cuda.get_arch_list()
        opened = _opened() if listed else 0
    except Exception as error:
        listed = opened = 0
        faults.append(f"{type(error).__name__}: {error}")
    for index in range(opened):
        try:
            devices.append({"index": index, **_device(index)})
        except Exception as error:
            faults.append(f"GPU {index}: {type(error).__name__}: {error}")
    in_parts = any("MIG" in device["name"] for device in devices)
    reporter.emit(
        "devices",
        devices=devices,
        torch_cuda=built_for,
        torch_archs=archs,
        detail="; ".join(faults),
        unopened=0 if in_parts else max(0, listed - opened),
    )
    return devices


def _opened() -> int:
    """Return how many GPUs CUDA opens. Raise what torch raises where it opens none."""
    import torch

    torch.cuda.init()
    count = getattr(getattr(torch, "_C", None), "_cuda_getDeviceCount", torch.cuda.device_count)
    return int(count())


def _device(index: int) -> dict[str, Any]:
    import torch

    facts = torch.cuda.get_device_properties(index)
    return {
        "name": facts.name,
        "compute_capability": f"{facts.major}.{facts.minor}",
        "memory_mib": facts.total_memory // 2**20,
        "uuid": str(getattr(facts, "uuid", "")),
    }
