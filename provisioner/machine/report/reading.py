"""A pasted report to a `Machine`: clean it, let every reader speak, keep the best statement of each fact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from provisioner.machine.facts import Driver, Gpu, Machine, Platform, Software
from provisioner.machine.report import (
    collect_env,
    compiler,
    gpu_list,
    hf_env,
    interpreter,
    labels,
    package_lists,
    sglang_env,
    smi_csv,
    smi_query,
    smi_table,
    smi_xml,
    system,
    torch_text,
    unsloth_banner,
)
from provisioner.machine.report.claims import Claim, Stated, merge
from provisioner.machine.report.cleaning import CleanText, clean
from provisioner.machine.report.document import find_machine
from provisioner.machine.report.gpu_names import with_capability

READERS = (
    collect_env,
    sglang_env,
    hf_env,
    smi_xml,
    smi_query,
    smi_csv,
    gpu_list,
    smi_table,
    torch_text,
    unsloth_banner,
    compiler,
    labels,
    package_lists,
    interpreter,
    system,
)
"""All readers, most trusted first: tools that ask the machine, then torch itself, then lists, then what paths give away."""


@dataclass(frozen=True, slots=True)
class Report:
    """A report read: the machine it shows, its cleaned text, and what it says that is no fact of a `Machine`.

    ``cuda_available`` is torch's answer; ``rocm`` the words that show an AMD stack; ``no_gpu`` those that show that no NVIDIA GPU
    answers; ``cpu_torch`` a torch built without CUDA; ``cuda_err`` an ``ERR!`` in place of the driver's CUDA.
    """

    machine: Machine
    text: CleanText
    cuda_available: bool | None = None
    rocm: str | None = None
    no_gpu: str | None = None
    cpu_torch: bool = False
    cuda_err: bool = False
    evidence: dict[str, str] = field(default_factory=dict)


def read_report(text: str) -> Report:
    """Return what ``text`` states; a fact that it does not state is None. Never raises."""
    cleaned = clean(text)
    readings = _readings(cleaned)
    if cleaned.unwrapped is not None:  # what the lines as they are leave open
        readings += _readings(cleaned.unwrapped)
    stated = merge(readings)
    machine = find_machine(text) or _machine(stated, _gpus(readings, stated))
    return Report(
        machine=machine,
        text=cleaned,
        cuda_available=_value(stated, "signal.cuda_available"),
        rocm=_line(stated, "signal.rocm"),
        no_gpu=_line(stated, "signal.no_gpu"),
        cpu_torch=bool(_value(stated, "signal.cpu_torch")),
        cuda_err=bool(_value(stated, "signal.cuda_err")),
        evidence={fact: one.claim.line for fact, one in stated.items() if one.claim.line},
    )


def _readings(cleaned: CleanText) -> list[tuple[str, tuple[Claim, ...]]]:
    return [(reader.__name__.rpartition(".")[2], tuple(reader.read(cleaned))) for reader in READERS]


def _value(stated: dict[str, Stated], fact: str) -> Any:
    return stated[fact].claim.value if fact in stated else None


def _line(stated: dict[str, Stated], fact: str) -> str | None:
    return (stated[fact].claim.line or str(stated[fact].claim.value)) if fact in stated else None


def _gpus(readings: list[tuple[str, tuple[Claim, ...]]], stated: dict[str, Stated]) -> tuple[Gpu, ...]:
    """The devices of the best list, completed from the other lists of as many devices, then by name."""
    every = [claim for _, claims in readings for claim in claims if claim.fact == "gpus"]
    if not every:
        name = _value(stated, "signal.unnumbered_gpu")
        return (with_capability(Gpu(name=name, source="report")),) if name else ()
    best: tuple[Gpu, ...] = every[0].value
    for other in every[1:]:
        best = _completed(best, other.value)
    return tuple(with_capability(gpu) for gpu in best)


def _completed(gpus: tuple[Gpu, ...], others: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    by_name = {other.name: other for other in others}
    if len(gpus) == len(others):
        pairs = zip(gpus, others, strict=True)
        return tuple(_filled(gpu, by_name.get(gpu.name) or other) for gpu, other in pairs)
    return tuple(_filled(gpu, by_name.get(gpu.name)) for gpu in gpus)


def _filled(gpu: Gpu, other: Gpu | None) -> Gpu:
    if other is None or gpu.vendor != other.vendor:
        return gpu
    return replace(
        gpu,
        compute_capability=gpu.compute_capability or other.compute_capability,
        memory_mib=gpu.memory_mib or other.memory_mib,
        partition=gpu.partition or other.partition,
    )


def _machine(stated: dict[str, Stated], gpus: tuple[Gpu, ...]) -> Machine:
    values = {fact: one.claim.value for fact, one in stated.items() if one.claim.value is not None}

    def part(name: str) -> dict[str, Any]:
        return {fact.partition(".")[2]: value for fact, value in values.items() if fact.startswith(f"{name}.")}

    origins = {fact: one.reader for fact, one in stated.items() if not fact.startswith("signal.") and fact in values}
    return Machine(
        gpus=gpus,
        driver=Driver(**part("driver")),
        platform=Platform(**part("platform")),
        software=Software(**part("software")),
        origins=origins,
    )
