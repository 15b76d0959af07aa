"""What speaks against a candidate on every machine: the versions that the user named, the ABI, xformers' range.

Each verdict has a stable code and a reason that teaches. They are found once, when the drafts of a recipe are made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.building.releases import COMPILED
from provisioner.planning.numbers import covers, minor, numbers
from provisioner.planning.values import Request
from provisioner.planning.verdict import Verdict

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.stock import Draft

XFORMERS_REFUSES = (0, 0, 30)
"""From here on xformers raises beside a flash-attn outside its range; before, it falls back to torch's own kernels
(xformers/ops/fmha/flash.py of 0.0.29.post3 and 0.0.31.post1, read 2026-11-24)."""


def flaw(draft: Draft, request: Request, catalog: Catalog, processor: str, *, unsloth: bool = True) -> Verdict | None:
    """Return what speaks against a draft wherever it would be installed, None when nothing does; ``unsloth``: it is to go in as well."""
    return (
        pin_flaw(draft, request)
        or release_flaw(draft)
        or python_flaw(draft, catalog, processor)
        or abi_flaw(draft)
        or xformers_flaw(draft, catalog, processor)
        or (unsloth_flaw(draft, catalog) if unsloth and not draft.stack.trimmed else None)
    )


def pin_flaw(draft: Draft, request: Request) -> Verdict | None:
    """The user's own wishes."""
    if request.python and not covers(request.python, draft.python) and minor(request.python) != draft.python:
        return Verdict("pinned-python", f"Python {request.python} was asked for")
    if request.torch and not covers(request.torch, draft.torch.torch):
        return Verdict("pinned-torch", f"torch {request.torch} was asked for")
    if request.cuda and (draft.torch.cuda is None or not covers(minor(request.cuda), draft.torch.cuda)):
        return Verdict("pinned-cuda", f"CUDA {request.cuda} was asked for")
    if request.flash_attn and draft.version is not None and not covers(request.flash_attn, draft.version):
        return Verdict("pinned-flash-attn", f"flash-attn {request.flash_attn} was asked for")
    return None


def release_flaw(draft: Draft) -> Verdict | None:
    """Is the release one whose kernels the build engine knows by their units."""
    if draft.release is None or draft.release.version in COMPILED:
        return None
    known = ", ".join(version for version in COMPILED if version.startswith("2."))
    return Verdict(
        "release-not-compiled", f"flash-attn {draft.release.version} is not among the releases that are compiled here: {known}"
    )


def python_flaw(draft: Draft, catalog: Catalog, processor: str) -> Verdict | None:
    """Are torch and xformers built for this Python."""
    torch = draft.torch
    if draft.python not in torch.pythons:
        return Verdict("python-unsupported", f"torch {torch.torch} has no build for Python {draft.python}")
    xformers = draft.stack.xformers if processor == "x86_64" else None
    pythons = catalog.xformers_pythons(xformers) if xformers else ()
    if pythons and draft.python not in pythons:
        return Verdict("python-unsupported", f"xformers {xformers} has no wheel for Python {draft.python}")
    return None


def abi_flaw(draft: Draft) -> Verdict | None:
    """Do wheel and torch use the same C++ ABI, whatever the file name says (2.8.x for torch 2.6: #1783, #1717)."""
    wheel, torch = draft.wheel, draft.torch
    if wheel is None or wheel.real_abi is None or torch.cxx11_abi is None:
        return None
    if wheel.abi is not None and wheel.abi is not wheel.real_abi:
        label, real = str(wheel.abi).upper(), str(wheel.real_abi).upper()
        return Verdict(
            "abi-mislabelled", f"the wheel is labelled cxx11abi{label}, but was built with the ABI {real} (#1783, #1717)"
        )
    if wheel.real_abi is not torch.cxx11_abi:
        have, want = str(wheel.real_abi).upper(), str(torch.cxx11_abi).upper()
        text = f"the wheel has the C++ ABI {have}, torch {torch.torch} has {want}: undefined symbol on import"
        return Verdict("abi-mismatch", text)
    return None


def xformers_flaw(draft: Draft, catalog: Catalog, processor: str) -> Verdict | None:
    """Does xformers accept the flash-attn beside it (unsloth #2763: `Requires Flash-Attention version >=2.7.1,<=2.8.2`)."""
    xformers, version = draft.stack.xformers, draft.version
    if xformers is None or version is None or processor != "x86_64" or draft.stack.ignore_xformers_range:
        return None
    if numbers(version)[:1] == (1,):
        return Verdict("xformers-range", f"flash-attn {version} has the 1.x API, beside which `import xformers.ops` fails")
    span = catalog.xformers_range(xformers)
    if span is None or numbers(xformers) < XFORMERS_REFUSES or catalog.accepts(xformers, version):
        return None
    text = f"xformers {xformers} takes flash-attn {span[0]} to {span[1]} and refuses to import beside {version}"
    return Verdict("xformers-range", text)


def unsloth_flaw(draft: Draft, catalog: Catalog) -> Verdict | None:
    """Does Unsloth install beside this torch and into this Python (its METADATA and that of what it requires)."""
    text = catalog.unsloth_objection(draft.torch.torch, draft.python)
    return Verdict("unsloth-unsupported", text) if text else None
