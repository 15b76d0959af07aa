"""The targets of one `provision lock`: every platform with every GPU class, as machines to plan for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from provisioner.cli.selection import machine_for
from provisioner.errors import UsageError
from provisioner.machine.facts import Machine

PROCESSORS = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}


def machines(machine: Machine, platforms: Sequence[str], classes: Sequence[str]) -> tuple[Machine, ...]:
    """Return the machine to lock for, once for each platform and GPU class; as it is when none is named.

    Raise `UsageError` for a platform that no environment is made for, and for an unknown class.
    """
    processors: list[str | None] = [processor_of(name) for name in dict.fromkeys(platforms)] or [None]
    per_class = [machine_for(machine, (name,)) for name in dict.fromkeys(classes)] or [machine]
    return tuple(_on(each, processor) for processor in processors for each in per_class)


def processor_of(platform: str) -> str:
    """Return the processor of a conda platform. Raise `UsageError` for one that no environment is made for."""
    if platform not in PROCESSORS:
        raise UsageError(
            f"no environment is made for {platform}", hints=[f"known: {', '.join(PROCESSORS)}"], code="unknown-platform"
        )
    return PROCESSORS[platform]


def _on(machine: Machine, processor: str | None) -> Machine:
    """Return the machine with another processor; what this host has installed says nothing about that one."""
    if processor is None or machine.platform.machine == processor:
        return machine
    platform = replace(machine.platform, machine=processor, jetson=None)
    return replace(machine, platform=platform, pythons=(), compilers=(), toolkits=(), conda=())
