"""A pasted report to its machine and findings."""

from __future__ import annotations

import re
from dataclasses import replace

from provisioner.diagnosing import messages, out_of_memory, rules
from provisioner.diagnosing.candidates import Candidate, resolve
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding, Fix, Severity
from provisioner.diagnosing.inventory import find_inventory
from provisioner.machine.facts import Machine
from provisioner.machine.report import Report, read_report


def diagnose_report(text: str) -> tuple[Machine, tuple[Finding, ...]]:
    """Return the machine that ``text`` shows and what is wrong with it, the cause first. Never raises."""
    report = read_report(text)
    inventory = find_inventory(text)
    return report.machine, diagnose(report.machine, inventory) if inventory else findings_of(report)


def findings_of(report: Report) -> tuple[Finding, ...]:
    """Return the findings of a report already read."""
    matched = (_in_context(candidate, report) for candidate in messages.match(report.text) if not _is_foreign(candidate, report))
    return resolve((*matched, *rules.apply(report), *out_of_memory.causes(report.text)))


_BUILDING = (
    "setup.py",
    "egg_info",
    "requirements to build",
    "bdist_wheel",
    "metadata",
    "pip-build-env",
    "build_meta",
    "flash-attn",
    "flash_attn",
)


HOPPER = 9
"""The major compute capability that FlashAttention-3's kernels are for."""

_FA3 = re.compile(r"Flash ?Attention[- ]?3\b|\bFA3\b|flash_attn_3\b")


def _is_foreign(candidate: Candidate, report: Report) -> bool:
    """Say whether a message cannot be meant, because something else in the report contradicts it."""
    match candidate.code:
        case "wsl-libcuda-not-found":  # on Windows itself there is no libcuda.so to be missed, whatever a package looks for
            return report.machine.platform.system == "windows"
        case "libcudart-missing":  # old bitsandbytes lists this among the possible reasons, also where it found one
            return "CUDA runtime path found" in report.text.text and all("CUDA" in quote for quote in candidate.evidence)
        case "fa3-on-blackwell":
            return any(gpu.capability and gpu.capability.major == HOPPER for gpu in rules.nvidia_gpus(report))
        case "network-blocked":
            return all("Retrying (Retry(" in quote for quote in candidate.evidence) and _went_on(report)
    return False


def _went_on(report: Report) -> bool:
    """Say whether pip downloaded something after the last attempt that failed."""
    _, retry, after = report.text.text.rpartition("Retrying (Retry(")
    return bool(retry) and any(word in after for word in ("  Downloading ", "  Using cached ", "Successfully installed "))


def _blackwell(report: Report) -> bool:
    gpus = rules.nvidia_gpus(report)
    return bool(gpus) and all(gpu.capability and gpu.capability.major > HOPPER for gpu in gpus)


def _in_context(candidate: Candidate, report: Report) -> Candidate:
    """Read a message by what surrounds it.

    No GPU for Unsloth where another tool lists one is torch without CUDA. Under WSL a missing libcuda is not a missing driver: the driver
    is Windows', only its library is not found. FlashAttention-3 holds kernels for Hopper, so none for Blackwell. And torch is hidden by build
    isolation only where something is being built; else it is simply not installed.
    """
    quotes = " ".join(candidate.evidence)
    if candidate.code == "xformers-torch-mismatch" and "Xformers = None" in report.text.text:
        return replace(candidate, severity=Severity.WARNING, rank=94)  # Unsloth's banner says that it went on without
    if candidate.code == "no-gpu" and rules.nvidia_gpus(report):
        return replace(candidate, code="cuda-unavailable", rank=45, title="torch cannot use the GPU that is there")
    if candidate.code == "driver-not-running" and report.machine.platform.wsl == "2" and "libcuda" in quotes:
        return replace(candidate, code="wsl-libcuda-not-found", rank=23, title="the linker does not find WSL's libcuda.so")
    if candidate.code == "no-kernel-image" and "flash" in quotes and _FA3.search(report.text.text) and _blackwell(report):
        return replace(
            candidate, code="fa3-on-blackwell", rank=58, title="FlashAttention-3 kernels run on another GPU than Hopper"
        )
    if (
        candidate.code == "no-torch-build-isolation"
        and "doesn't declare" not in quotes
        and not any(word in report.text.lower for word in _BUILDING)
    ):
        fix = Fix("install torch into the environment whose Python runs this", "python -m pip --version")
        return replace(candidate, code="torch-import-broken", title="torch is not installed in this environment", fix=fix)
    return candidate
