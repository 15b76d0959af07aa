"""The right flash-attn in place of a broken one: chosen by planning for the torch and the xformers that are there, installed and proven."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provisioner.errors import NoRoute
from provisioner.machine.facts import Machine
from provisioner.planning.values import Plan, Request


def choose(machine: Machine, *, offline: bool = False) -> Plan:
    """Return the plan that `provision install` would carry out beside the interpreter whose software ``machine`` states.

    Where planning's first choice lies outside the range of the xformers that is there, the newest release inside it that has a route.
    Raise `NoRoute` or `UsageError` where there is none, with the reason.
    """
    from provisioner.environments.install import plan_beside
    from provisioner.planning.catalog import load_catalog

    catalog = load_catalog()
    try:
        return plan_beside(machine, Request(offline=offline), catalog)
    except NoRoute as error:
        if error.code != "xformers-range":
            raise
        first = error
    for version in _accepted(machine.software.xformers or ""):
        try:
            return plan_beside(machine, Request(flash_attn=version, offline=offline), catalog)
        except NoRoute:
            continue
    raise first


def _accepted(xformers: str) -> Iterator[str]:
    """Yield the releases of flash-attn that an xformers takes, the newest first."""
    from packaging.version import Version

    from provisioner.knowledge import flash_attn, packages

    known = packages.xformers_release(xformers)
    for version in sorted((release.version for release in flash_attn.releases()), key=Version, reverse=True):
        if known is not None and known.accepts_flash_attn(version):
            yield version


def described(plan: Plan) -> str:
    """Return in one line what would be done."""
    assert plan.flash_attn is not None
    how = {"wheel": "its wheel", "source": "compiled here", "shim": "the adapter"}.get(plan.route, plan.route)
    return f"install flash-attn {plan.flash_attn.version} ({how}) for torch {plan.torch}"


def carry_out(python: Path, plan: Plan, machine: Machine) -> Path:
    """Install the plan's flash-attn beside ``python`` and prove it; return the wheel. On failure the environment is as it was.

    Raises what `environments.install.install` raises.
    """
    from provisioner.environments.install import install
    from provisioner.indexes import read_index_settings

    return install(python, plan, machine, read_index_settings()).wheel
