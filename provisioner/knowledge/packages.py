"""What xformers, triton, bitsandbytes and unsloth ask of torch, of flash-attn and of the GPU."""

from __future__ import annotations

import functools

import msgspec
from packaging.version import Version

from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, tables


class Xformers(msgspec.Struct, frozen=True):
    """An xformers release: ``torch`` is its requirement (``torch==2.8.0``).

    ``flash_attn_min`` and ``flash_attn_max`` bound, inclusively, the flash-attn beside which it can be imported; ``compare`` says how much of
    that version it looks at (``minor``, ``first-three``, ``pep440``). ``kernels`` is ``torch`` where its CUTLASS operator calls
    torch's own kernels, so that torch's archs decide. ``cudart`` is the CUDA major whose runtime its extension needs, None where that was
    not read: with another torch it imports without its operators (0.0.35 beside torch 2.11+cu130 on an H100, 2026-11-24). ``pythons`` is empty where one wheel serves all.
    """

    xformers: str
    torch: str
    flash_attn_min: str
    flash_attn_max: str | None
    compare: str
    kernels: str
    pythons: tuple[str, ...]
    requires_python: str
    released: str
    glibc: str
    source: str
    date: str
    cudart: str | None = None

    def fits_torch(self, torch: str) -> bool:
        """Say whether it may be installed beside this torch release."""
        from packaging.specifiers import SpecifierSet  # imported where asked: it costs more than planning itself

        return SpecifierSet(self.torch.removeprefix("torch")).contains(torch.split("+")[0], prereleases=True)

    def accepts_flash_attn(self, version: str) -> bool:
        """Say whether ``import xformers.ops`` works beside a flash-attn whose ``flash_attn.__version__`` this is (never with a local label).

        That attribute is all that is compared, not the distribution's version (ops/fmha/flash.py of 0.0.30 to 0.0.35, read 2026-11-25).
        """
        return _accepts(self, version)


class Triton(msgspec.Struct, frozen=True):
    """A triton release: ``torch`` lists the releases that require exactly it.

    ``min_compute_capability`` is what its code still compiles for, ``tested_compute_capability`` what its authors ask for.
    ``ptxas`` is the CUDA version of the assembler inside, ``ptxas_blackwell`` that of the one for compute capability 10.0 and newer
    where there are two; None where they were not read.
    """

    triton: str
    torch: tuple[str, ...]
    requires_python: str | None
    min_compute_capability: str
    tested_compute_capability: str
    released: str
    ptxas: str | None
    source: str
    date: str
    ptxas_blackwell: str | None = None

    def assembler(self, capability: ComputeCapability) -> str | None:
        """Return the CUDA version of the assembler that it takes for a GPU, None where that is not known."""
        return (self.ptxas_blackwell if capability.major >= 10 else None) or self.ptxas

    def assembles_for(self, capability: ComputeCapability) -> bool | None:
        """Say whether its own assembler knows a GPU; None where that is not known. ``TRITON_PTXAS_PATH`` would name another one.

        Where it does not, each kernel ends in `Value 'sm_121a' is not defined for option 'gpu-name'` (triton#8539; GB300: triton#8485).
        """
        version = self.assembler(capability)
        return None if version is None else archs.compiles_for(version, capability)


class Bitsandbytes(msgspec.Struct, frozen=True):
    """The architectures in bitsandbytes' library for a range of CUDA versions, over a range of its releases."""

    first: str
    last: str | None
    cuda_min: str
    cuda_max: str
    archs: tuple[str, ...]
    machine: str
    source: str
    date: str


class Unsloth(msgspec.Struct, frozen=True):
    """An unsloth release: ``requires`` maps a package to the versions that it accepts.

    ``lowest_python`` is the first Python that these have releases for, None where they start as early as it does itself.
    """

    unsloth: str
    requires_python: str
    flash_attn_min_capability: str
    released: str
    source: str
    date: str
    requires: dict[str, str] = {}
    note: str | None = None
    lowest_python: str | None = None

    def accepts(self, package: str, version: str) -> bool:
        """Say whether it may be installed beside this version of ``package``; True for a package it does not name."""
        from packaging.specifiers import SpecifierSet

        specifier = SpecifierSet(self.requires.get(package, ""))
        return specifier.contains(version.split("+")[0], prereleases=True)

    def accepts_python(self, python: str) -> bool:
        """Say whether it may be installed into this Python (``"3.12"``)."""
        from packaging.specifiers import SpecifierSet

        below = self.lowest_python is not None and Version(python) < Version(self.lowest_python)
        return not below and SpecifierSet(self.requires_python).contains(python)


@functools.cache
def xformers() -> tuple[Xformers, ...]:
    """Return the xformers releases, newest first."""
    return tables.rows("xformers", Xformers)


@functools.lru_cache(maxsize=256)
def xformers_for(torch: str) -> Xformers | None:
    """Return the newest xformers that may stand beside this torch release, None if there is none."""
    return next((release for release in xformers() if release.fits_torch(torch)), None)


@functools.lru_cache(maxsize=256)
def xformers_release(version: str) -> Xformers | None:
    """Return one xformers release, None when it is not known."""
    return next((release for release in xformers() if release.xformers == version.split("+")[0]), None)


@functools.cache
def triton() -> tuple[Triton, ...]:
    """Return the triton releases, newest first."""
    return tables.rows("triton", Triton)


@functools.lru_cache(maxsize=256)
def triton_for(torch: str) -> Triton | None:
    """Return the triton that this torch release requires, None if that is not known."""
    return next((release for release in triton() if torch.split("+")[0] in release.torch), None)


@functools.lru_cache(maxsize=256)
def triton_release(version: str) -> Triton | None:
    """Return one triton release, None when it is not known."""
    return next((release for release in triton() if release.triton == version), None)


@functools.cache
def bitsandbytes() -> tuple[Bitsandbytes, ...]:
    """Return the rows, oldest first."""
    return tables.rows("bitsandbytes", Bitsandbytes)


@functools.lru_cache(maxsize=1024)
def bitsandbytes_runs_on(version: str, cuda: str, capability: ComputeCapability, *, machine: str = "x86_64") -> bool | None:
    """Say whether bitsandbytes' library for this CUDA has kernels for the GPU; None where that is not known."""
    wanted, number = Version(version), Version(cuda)
    for row in bitsandbytes():
        covers = Version(row.first) <= wanted and (row.last is None or wanted <= Version(row.last))
        if row.machine == machine and covers and Version(row.cuda_min) <= number <= Version(row.cuda_max):
            return archs.covers(row.archs, capability)
    return None


@functools.cache
def unsloth() -> tuple[Unsloth, ...]:
    """Return the unsloth releases that were read, newest first."""
    return tables.rows("unsloth", Unsloth)


@functools.lru_cache(maxsize=1024)
def unsloth_for(torch: str, python: str) -> Unsloth | None:
    """Return the newest unsloth read so far that may stand beside this torch in this Python, None if there is none.

    Releases before 2026.5 state no upper bound for torch; that they accept anything counts only where a bounded release does too.
    """
    if not any("<" in one.requires.get("torch", "") and one.accepts("torch", torch) for one in unsloth()):
        return None
    return next((one for one in unsloth() if one.accepts("torch", torch) and one.accepts_python(python)), None)


@functools.lru_cache(maxsize=4096)
def _accepts(release: Xformers, version: str) -> bool:
    parts = {"minor": 2, "first-three": 3}.get(release.compare)
    found = Version(version)
    found = Version(found.public) if parts is None else Version(".".join(map(str, found.release[:parts])))
    top = release.flash_attn_max
    return Version(release.flash_attn_min) <= found and (top is None or found <= Version(top))
