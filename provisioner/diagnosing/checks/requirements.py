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
    from packaging.specifiers import Specifier, SpecifierSet

UNSLOTH = ("unsloth", "unsloth-zoo")
COMPILED = ("xformers", "torchvision", "torchaudio")
"""Packages with extensions compiled against one torch: beside another they load no kernel, or not at all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A requirement: whose it is, and what is there (None: nothing)."""

    owner: str
    version: str
    wanted: Requirement
    installed: str | None

    @property
    def name(self) -> str:
        """What is asked for, in its normal form."""
        return normal(self.wanted.name)

    @property
    def quote(self) -> str:
        """What of the requirement does not hold, and what is there, in one line."""
        if self.installed is None:
            return f"{self.owner} {self.version} asks for {self.wanted.name}{self.wanted.specifier}, it is not installed"
        broken = ",".join(str(one) for one in self.wanted.specifier if not holds(one, self.installed))
        return f"{self.owner} {self.version} asks for {self.wanted.name}{broken}, {self.installed} is installed"


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about versions that do not go together."""
    asked = tuple(requirements(inventory))
    unmet = tuple(one for one in asked if one.installed is None or not holds(one.wanted.specifier, one.installed))
    pins = [one for one in unmet if one.owner in UNSLOTH]
    compiled = [one for one in unmet if one.owner in COMPILED and one.name == "torch" and one.installed]
    if violated := [one for one in pins if one.installed]:
        title = violated[0].quote + _more(violated)
        yield _installed(inventory, "unsloth-pin-violated", 49, title, violated, asked)
    if missing := [one for one in pins if not one.installed]:
        title = f"unsloth needs {', '.join(dict.fromkeys(one.name for one in missing))}, not installed here"
        yield _installed(inventory, "missing-dependency", 58, title, missing, asked)
    for one in compiled:
        yield _of_another_torch(inventory, one)
    named = {one.name for one in pins}
    if others := [one for one in unmet if one.name not in named and one not in compiled]:
        yield _others(others)
    yield from _flash_attn_range(inventory)


def requirements(inventory: Inventory) -> Iterator[Asked]:
    """Yield the requirements of watched packages; markers are judged for the examined Python."""
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
            installed = inventory.version(normal(wanted.name))
            if installed or inventory.versions:  # an older script lists watched packages only
                yield Asked(owner, copies[0].version, wanted, installed)


def normal(name: str) -> str:
    """Return a distribution's name in its normal form."""
    return name.lower().replace("_", "-").replace(".", "-")


def holds(specifier: Specifier | SpecifierSet, version: str) -> bool:
    """Say whether an installed version, its local part aside, is one of those asked for."""
    return specifier.contains(version.split("+")[0], prereleases=True)


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


def _installed(inventory: Inventory, code: str, rank: int, title: str, unmet: list[Asked], asked: tuple[Asked, ...]) -> Candidate:
    """What unsloth's pins want, installed in one go; with another torch also the packages that were compiled for the old one."""
    names = list(dict.fromkeys(one.name for one in unmet))
    words = [f"{name}{_range(name, names, asked)}" for name in names]
    if "torch" in names:
        words += [name for name in COMPILED if inventory.version(name)]
    fix = Fix(f"install {', '.join(names)} as unsloth asks for", install(inventory, *words), Safety.REVERSIBLE, automatic=True)
    return Candidate(code, rank, Severity.ERROR, title, tuple(one.quote for one in unmet), fix, "unsloth's metadata")


def _range(name: str, replaced: list[str], asked: tuple[Asked, ...]) -> SpecifierSet:
    """The versions of ``name`` that suit all that stays: not those that are replaced with it, nor what is compiled for one torch."""
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(
        ",".join(
            sorted(
                {
                    str(clause)
                    for one in asked
                    if one.name == name and one.owner not in replaced and one.owner not in COMPILED
                    for clause in one.wanted.specifier
                }
            )
        )
    )


def _more(unmet: list[Asked]) -> str:
    return f"; {len(unmet) - 1} more like it" if len(unmet) > 1 else ""


def _of_another_torch(inventory: Inventory, one: Asked) -> Candidate:
    title = f"{one.owner} {one.version} is built for torch{one.wanted.specifier}, {one.installed} is installed"
    command = install(inventory, "--upgrade", one.owner, f"torch=={one.installed}")
    fix = Fix(f"install the {one.owner} of this torch", command, Safety.REVERSIBLE, automatic=True)
    evidence = (f"Requires-Dist: {one.wanted}", f"torch {one.installed}")
    return Candidate(f"{one.owner}-torch-mismatch", 50, Severity.ERROR, title, evidence, fix, f"{one.owner}'s metadata")


def _others(unmet: list[Asked]) -> Candidate:
    """What `pip check` says too: whether anything fails for it is told by the imports."""
    fix = Fix("install what is asked for where something fails for it")
    title = unmet[0].quote + _more(unmet)
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
