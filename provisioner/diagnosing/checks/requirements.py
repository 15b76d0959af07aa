"""Versions beside one another: what packages' own metadata demands of the others, and which flash-attn this xformers accepts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import install, uninstall
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Inventory

if TYPE_CHECKING:
    from packaging.requirements import Requirement

UNSLOTH = ("unsloth", "unsloth-zoo")
COMPILED = ("xformers", "torchvision", "torchaudio")
"""Packages with extensions compiled against one torch: beside another they load no kernel, or not at all."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """A requirement that does not hold: whose it is, and what is there instead (None: nothing)."""

    owner: str
    version: str
    wanted: Requirement
    installed: str | None

    @property
    def quote(self) -> str:
        """The requirement and what is there, in one line."""
        there = f"{self.installed} is installed" if self.installed else "it is not installed"
        return f"{self.owner} {self.version} asks for {self.wanted.name}{self.wanted.specifier}, {there}"


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about versions that do not go together."""
    unmet = tuple(unmet_requirements(inventory))
    pins = [one for one in unmet if one.owner in UNSLOTH]
    compiled = [one for one in unmet if one.owner in COMPILED and one.wanted.name == "torch" and one.installed]
    if violated := [one for one in pins if one.installed]:
        yield _pins(inventory, violated)
    if missing := [one for one in pins if not one.installed]:
        yield _missing(inventory, missing)
    for one in compiled:
        yield _of_another_torch(inventory, one)
    if others := [one for one in unmet if one not in pins and one not in compiled]:
        yield _others(others)
    yield from _flash_attn_range(inventory)


def unmet_requirements(inventory: Inventory) -> Iterator[Unmet]:
    """Yield the requirements of watched packages that do not hold here; markers are judged for the examined Python."""
    from packaging.requirements import InvalidRequirement, Requirement

    environment = _marker_environment(inventory)
    for owner, copies in inventory.packages.items():
        for line in copies[0].requires:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue
            if wanted.marker and not wanted.marker.evaluate({**environment, "extra": ""}):
                continue
            installed = inventory.version(wanted.name.lower().replace("_", "-").replace(".", "-"))
            known = installed is not None or bool(inventory.versions)  # an older script lists watched packages only
            if known and not (installed and wanted.specifier.contains(installed.split("+")[0], prereleases=True)):
                yield Unmet(owner, copies[0].version, wanted, installed)


def _marker_environment(inventory: Inventory) -> dict[str, str]:
    version = inventory.python.version
    system = str(inventory.host.get("system") or "linux")
    return {
        "python_version": ".".join(version.split(".")[:2]),
        "python_full_version": version,
        "sys_platform": {"windows": "win32"}.get(system, system),
        "platform_system": system.capitalize(),
        "platform_machine": str(inventory.host.get("machine") or "x86_64"),
        "os_name": "nt" if system == "windows" else "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }


def _pins(inventory: Inventory, unmet: list[Unmet]) -> Candidate:
    asked = list(dict.fromkeys(f"{one.wanted.name}{one.wanted.specifier}" for one in unmet))
    names = ", ".join(dict.fromkeys(one.wanted.name for one in unmet))
    fix = Fix(f"install {names} inside the range", install(inventory, *asked), Safety.REVERSIBLE, automatic=True)
    title = unmet[0].quote + (f"; {len(unmet) - 1} more like it" if len(unmet) > 1 else "")
    return Candidate(
        "unsloth-pin-violated", 49, Severity.ERROR, title, tuple(one.quote for one in unmet), fix, "unsloth's metadata"
    )


def _missing(inventory: Inventory, unmet: list[Unmet]) -> Candidate:
    asked = list(dict.fromkeys(f"{one.wanted.name}{one.wanted.specifier}" for one in unmet))
    names = ", ".join(dict.fromkeys(one.wanted.name for one in unmet))
    fix = Fix(f"install {names}", install(inventory, *asked), Safety.REVERSIBLE, automatic=True)
    title = f"unsloth needs {names}, not installed here"
    return Candidate(
        "missing-dependency", 58, Severity.ERROR, title, tuple(one.quote for one in unmet), fix, "unsloth's metadata"
    )


def _of_another_torch(inventory: Inventory, one: Unmet) -> Candidate:
    title = f"{one.owner} {one.version} is built for torch{one.wanted.specifier}, {one.installed} is installed"
    command = install(inventory, "--upgrade", one.owner, f"torch=={one.installed}")
    fix = Fix(f"install the {one.owner} of this torch", command, Safety.REVERSIBLE, automatic=True)
    evidence = (f"Requires-Dist: {one.wanted}", f"torch {one.installed}")
    return Candidate(f"{one.owner}-torch-mismatch", 50, Severity.ERROR, title, evidence, fix, f"{one.owner}'s metadata")


def _others(unmet: list[Unmet]) -> Candidate:
    """What `pip check` says too; the imports tell whether anything fails for it."""
    fix = Fix("install what is asked for, unless the imports below work without", None)
    title = unmet[0].quote + (f"; {len(unmet) - 1} more like it" if len(unmet) > 1 else "")
    return Candidate("requirement-unmet", 89, Severity.WARNING, title, tuple(one.quote for one in unmet[:6]), fix)


def _flash_attn_range(inventory: Inventory) -> Iterator[Candidate]:
    from provisioner.knowledge import packages

    xformers, flash_attn = inventory.version("xformers"), inventory.version("flash-attn")
    if not xformers or not flash_attn or inventory.variables.get("XFORMERS_IGNORE_FLASH_VERSION_CHECK", "0") != "0":
        return
    release = packages.xformers_release(xformers)
    if release is None or release.accepts_flash_attn(flash_attn.split("+")[0]):
        return
    accepted = f">={release.flash_attn_min}" + (f",<={release.flash_attn_max}" if release.flash_attn_max else "")
    title = f"xformers {xformers} accepts flash-attn {accepted} and refuses to import beside {flash_attn}"
    fix = Fix(
        f"install a flash-attn in {accepted}; where none fits this torch, remove it: Unsloth goes on with xformers",
        uninstall(inventory, "flash-attn"),
        Safety.REVERSIBLE,
        automatic=True,
        repair=Repair.FLASH_ATTN,
    )
    evidence = (f"xformers {xformers}", f"flash-attn {flash_attn}")
    yield Candidate("xformers-flash-attn-range", 47, Severity.ERROR, title, evidence, fix, release.source)
