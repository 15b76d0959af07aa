"""What the installed flash-attn really holds, read from its binary: the check that works without a GPU too."""

from __future__ import annotations

from pathlib import Path

from provisioner.errors import ProvisionError
from provisioner.verifying.expectation import Expectation
from provisioner.verifying.receipt import Check, Outcome
from provisioner.wheels.inspect import inspect

NAME = "device code of the extension"


def check_extension(python: Path, expect: Expectation) -> tuple[tuple[str, ...], tuple[Check, ...]]:
    """Return the architectures that flash-attn has real kernels for, and the check that all claimed ones are among them.

    Nothing is checked where no flash-attn with device code of its own is installed (none at all, or an adapter over torch's kernels).
    """
    try:
        found = inspect(python)
    except ProvisionError as error:
        if error.code in ("no-such-subject", "not-installed", "usage"):
            return (), ()
        return (), (Check(NAME, Outcome.FAILED, error.what, error.code),)
    if not found.extensions:
        return (), ()
    working = found.working_archs
    if found.archs and not working:
        return working, (Check(NAME, Outcome.FAILED, f"{', '.join(found.stubs)}: all kernels are empty stubs", "stub-kernels"),)
    if missing := [arch for arch in expect.archs if arch not in working]:
        there = ", ".join(working) or "none"
        return working, (Check(NAME, Outcome.FAILED, f"{', '.join(missing)} claimed; there is {there}", "no-kernel-image"),)
    return working, (Check(NAME, Outcome.PASSED, ", ".join(working) or "no device code"),)
