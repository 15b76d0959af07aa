"""Checks of an environment: each module judges one side of an `Inventory`; none looks at the system itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks import allocator, copies, host, imports, kernels, loader, places, remains, requirements
from provisioner.diagnosing.inventory import Inventory

CHECKS: tuple[Callable[[Inventory], Iterator[Candidate]], ...] = (
    host.check,
    places.check,
    copies.check,
    remains.check,
    requirements.check,
    loader.check,
    kernels.check,
    imports.check,
    allocator.check,
)


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield what all checks see."""
    for one in CHECKS:
        yield from one(inventory)
