"""The GPUs that a child saw: under which name each is shown alone, and what is said of those that are lost or not there."""

from __future__ import annotations

from typing import Any

from provisioner.verifying.expectation import Expectation
from provisioner.verifying.failures import classify
from provisioner.verifying.judging import shorten
from provisioner.verifying.receipt import Check, Outcome

KERNELS = "kernels on the GPU"
"""The check that stands for all of a GPU's where none could be run."""


def visible_entries(count: int, variable: str | None) -> tuple[str | None, ...]:
    """Return for each of torch's ``count`` devices the value of ``CUDA_VISIBLE_DEVICES`` that shows it alone.

    Entries may be indices, ``GPU-…`` or ``MIG-…`` identifiers, and are kept as the user wrote them. A single device that nothing selects
    is left so: where MIG is on, that is the first instance, which no index names.
    """
    if variable is not None:
        entries = [entry.strip() for entry in variable.split(",") if entry.strip()]
        return tuple(entries[:count])
    return (None,) if count == 1 else tuple(str(index) for index in range(count))


def lost(seen: dict[str, Any]) -> list[Check]:
    """Return the failed check of GPUs that are there and cannot be used beside others that can."""
    detail = shorten(seen.get("detail", ""))
    if not detail or not seen.get("devices"):
        return []
    return [_unusable("every GPU opens", detail)]


def _unusable(name: str, detail: str) -> Check:
    return Check(name, Outcome.FAILED, detail, classify(detail) or "cuda-unavailable")


def without_gpu(expect: Expectation, seen: dict[str, Any]) -> list[Check]:
    """Return the check of a machine where torch opens no GPU: a failure where one is wanted, or where one is there and does not open."""
    if detail := shorten(seen.get("detail", "")):
        return [_unusable(KERNELS, detail)]
    why = "torch was built without CUDA" if not seen.get("torch_cuda") else "torch sees no GPU"
    if expect.gpu:
        return [Check(KERNELS, Outcome.FAILED, why, "cuda-unavailable")]
    return [Check(KERNELS, Outcome.SKIPPED, f"{why}: nothing was computed")]


def unopened(seen: dict[str, Any]) -> list[str]:
    """Return a warning where the driver lists more GPUs than CUDA opens."""
    count = seen.get("unopened", 0)
    return (
        [f"the driver lists {count} more than the GPUs that CUDA opens (nvidia-smi says what state they are in)"] if count else []
    )
