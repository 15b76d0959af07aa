"""Versions beside one another: what unsloth's own metadata demands, and which flash-attn this xformers accepts."""

from __future__ import annotations

from collections.abc import Iterator

from provisioner.diagnosing.candidates import Candidate
from provisioner.diagnosing.checks.installer import install, uninstall
from provisioner.diagnosing.findings import Fix, Repair, Safety, Severity
from provisioner.diagnosing.inventory import Inventory


def check(inventory: Inventory) -> Iterator[Candidate]:
    """Yield findings about versions that do not go together."""
    for package in ("unsloth", "unsloth-zoo"):
        yield from _pins(inventory, package)
    yield from _xformers_torch(inventory)
    yield from _flash_attn_range(inventory)


def _pins(inventory: Inventory, package: str) -> Iterator[Candidate]:
    from packaging.requirements import InvalidRequirement, Requirement

    for copy in inventory.packages.get(package, ())[:1]:
        for line in copy.requires:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue
            installed = inventory.version(wanted.name.lower().replace("_", "-"))
            if installed is None or (wanted.marker and not _applies(str(wanted.marker))):
                continue
            if not wanted.specifier.contains(installed.split("+")[0], prereleases=True):
                title = f"{package} {copy.version} asks for {wanted.name}{wanted.specifier}, {installed} is installed"
                command = install(inventory, f"{wanted.name}{wanted.specifier}")
                fix = Fix(f"install a {wanted.name} inside the range", command, Safety.REVERSIBLE, automatic=True)
                evidence = (f"{copy.metadata}: Requires-Dist: {line}", f"{wanted.name} {installed}")
                yield Candidate("unsloth-pin-violated", 49, Severity.ERROR, title, evidence, fix)


def _applies(marker: str) -> bool:
    """Markers about extras concern nobody here; those about systems are of no interest to a Linux environment's pins."""
    return "extra" not in marker and "sys_platform == 'win32'" not in marker and 'sys_platform == "win32"' not in marker


def _xformers_torch(inventory: Inventory) -> Iterator[Candidate]:
    from packaging.requirements import InvalidRequirement, Requirement

    torch = inventory.version("torch")
    for copy in inventory.packages.get("xformers", ())[:1]:
        for line in copy.requires:
            try:
                wanted = Requirement(line)
            except InvalidRequirement:
                continue
            if wanted.name == "torch" and torch and not wanted.specifier.contains(torch.split("+")[0], prereleases=True):
                title = f"xformers {copy.version} is built for torch{wanted.specifier}, {torch} is installed"
                fix = Fix(
                    "install the xformers of this torch",
                    install(inventory, "--upgrade", "xformers", f"torch=={torch}"),
                    Safety.REVERSIBLE,
                )
                yield Candidate(
                    "xformers-torch-mismatch", 50, Severity.ERROR, title, (f"Requires-Dist: {line}", f"torch {torch}"), fix
                )


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
    command = uninstall(inventory, "flash-attn")
    fix = Fix(
        f"install a flash-attn in {accepted}; where none fits this torch, remove it: Unsloth goes on with xformers",
        command,
        Safety.REVERSIBLE,
        automatic=True,
        repair=Repair.FLASH_ATTN,
    )
    yield Candidate(
        "xformers-flash-attn-range",
        47,
        Severity.ERROR,
        title,
        (f"xformers {xformers}", f"flash-attn {flash_attn}"),
        fix,
        release.source,
    )
