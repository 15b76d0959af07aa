"""Partial facts: what one probe learned is a `Machine` with few fields set; merging keeps the first answer to each question."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, TypeVar

from provisioner.machine.facts import Gpu, Machine

SECTIONS = ("driver", "platform", "resources", "software")
LISTS = ("toolkits", "compilers", "pythons", "conda", "sources")

T = TypeVar("T")


def merge(known: Machine, found: Machine, label: str) -> Machine:
    """Return ``known`` with what ``found`` adds; ``label`` (or the finer label in ``found.origins``) becomes the origin.

    An answered question keeps its first answer, a fault its first evidence; lists are joined without repeats; GPUs come
    from the first source that lists any, and a later list of the same length fills only what that one left open.
    """
    origins = dict(known.origins)
    changes: dict[str, Any] = {}
    for section in SECTIONS:
        merged, answered = _fill(getattr(known, section), getattr(found, section))
        changes[section] = merged
        for name in answered:
            key = f"{section}.{name}"
            origins[key] = found.origins.get(key, label)
    for name in LISTS:
        changes[name] = tuple(dict.fromkeys(getattr(known, name) + getattr(found, name)))
        if getattr(found, name):
            origins.setdefault(name, label)
    seen = {fault.code for fault in known.faults if not fault.code.startswith("probe-")}
    changes["faults"] = known.faults + tuple(fault for fault in found.faults if fault.code not in seen)
    gpus = _merge_gpus(known.gpus, found.gpus)
    if gpus and not known.gpus:
        origins["gpus"] = label
    if known.cuda_visible_devices is None and found.cuda_visible_devices is not None:
        changes["cuda_visible_devices"] = found.cuda_visible_devices
        origins["cuda_visible_devices"] = label
    return replace(known, gpus=gpus, origins=origins, **changes)


def _fill(known: T, found: T) -> tuple[T, list[str]]:
    """Return ``known`` with its open fields taken from ``found``, and the names of those fields."""
    changes: dict[str, Any] = {}
    for item in fields(known):  # type: ignore[arg-type]
        old, new = getattr(known, item.name), getattr(found, item.name)
        if isinstance(old, dict):
            if new:
                changes[item.name] = {**new, **old}
        elif old is None and new is not None:
            changes[item.name] = new
    return (replace(known, **changes) if changes else known), list(changes)  # type: ignore[type-var]


def _merge_gpus(known: tuple[Gpu, ...], found: tuple[Gpu, ...]) -> tuple[Gpu, ...]:
    if not known:
        return found
    if len(known) != len(found):
        return known
    return tuple(_merge_gpu(old, new) for old, new in zip(known, found, strict=True))


def _merge_gpu(old: Gpu, new: Gpu) -> Gpu:
    """Return the GPU with its open facts filled; one whose compute capability is a guess carries that as its source."""
    guessed = old.compute_capability is None and new.source == "name-guess"
    return replace(
        old,
        name=old.name or new.name,
        compute_capability=old.compute_capability or new.compute_capability,
        memory_mib=old.memory_mib if old.memory_mib is not None else new.memory_mib,
        source=new.source if guessed else old.source,
    )
