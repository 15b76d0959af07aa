"""The releases of flash-attn that this tool compiles: where each sdist's kernels lie and how they are split into units.

Source: the sdists on the package index and their setup.py, read 2026-11-24. A release that is not here is built through
its own setup.py (`provisioner.building.foreign`).
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioner.errors import UsageError

SDIST_DATE = "2026-11-24"
"""When hashes and unit lists were read from the package index and the sdists."""


@dataclass(frozen=True, slots=True)
class Release:
    """One sdist. ``generation`` 2 has a unit per kernel (direction, head dim, dtype, causal); 1 has a unit per direction and head dim.

    ``min_capability`` is ten times the lowest compute capability whose kernels are real; below it upstream's code compiles to
    functions that print an error; above ``max_capability`` its host code refuses to run. ``cxx_standard`` is what its setup.py asks for. ``packages`` are the top-level Python packages
    that its setup.py installs.
    """

    version: str
    sha256: str
    size: int
    uploaded: str
    generation: int
    extension: str
    api: str
    sources: str
    includes: tuple[str, ...]
    head_dims: tuple[int, ...]
    min_capability: int
    requires: tuple[str, ...]
    requires_python: str
    packages: tuple[str, ...] = ("flash_attn", "hopper")
    cxx_standard: int = 17
    namespaced: bool = True
    max_capability: int | None = None

    @property
    def filename(self) -> str:
        """The sdist's name on a package index."""
        return f"flash_attn-{self.version}.tar.gz"


_INCLUDES_2 = ("csrc/flash_attn", "csrc/flash_attn/src", "csrc/cutlass/include")
_API_2 = "csrc/flash_attn/flash_api.cpp"
_SOURCES = "csrc/flash_attn/src"

RELEASES: tuple[Release, ...] = (
    Release(
        version="2.8.3.post2",
        sha256="d0f9f0b08a986cdeadbffcf5ec8b3a8f514366c68ad1853d3ab061bc83cc340b",
        size=8453127,
        uploaded="2026-10-14",
        generation=2,
        extension="flash_attn_2_cuda",
        api=_API_2,
        sources=_SOURCES,
        includes=_INCLUDES_2,
        head_dims=(32, 64, 96, 128, 192, 256),
        min_capability=80,
        requires=("torch", "einops"),
        requires_python=">=3.9",
    ),
    Release(
        version="2.7.4.post1",
        sha256="f03485c9a49a4d68d0733acdcad80ab0e72afa025a777fdc2966ceccf9d51765",
        size=5986610,
        uploaded="2025-01-30",
        generation=2,
        extension="flash_attn_2_cuda",
        api=_API_2,
        sources=_SOURCES,
        includes=_INCLUDES_2,
        head_dims=(32, 64, 96, 128, 160, 192, 256),
        min_capability=80,
        requires=("torch", "einops"),
        requires_python=">=3.9",
    ),
    Release(
        version="2.6.3",
        sha256="5bfae9500ad8e7d2937ebccb4906f3bc464d1bf66eedd0e4adabd520811c7b52",
        size=2631958,
        uploaded="2024-07-25",
        generation=2,
        extension="flash_attn_2_cuda",
        api=_API_2,
        sources=_SOURCES,
        includes=_INCLUDES_2,
        head_dims=(32, 64, 96, 128, 160, 192, 256),
        min_capability=80,
        requires=("torch", "einops"),
        requires_python=">=3.8",
        namespaced=False,
    ),
    Release(
        version="1.0.9",
        sha256="7c7e29ce25c6135f7291d39d8ce96481b6de0dc14e85eae73d1e5b6258d43ed9",
        size=1815217,
        uploaded="2023-07-17",
        generation=1,
        extension="flash_attn_cuda",
        api="csrc/flash_attn/fmha_api.cpp",
        sources=_SOURCES,
        includes=("csrc/flash_attn", "csrc/flash_attn/src", "csrc/flash_attn/cutlass/include"),
        head_dims=(32, 64, 128),
        min_capability=75,
        requires=("torch", "einops", "packaging", "ninja"),
        requires_python=">=3.7",
        packages=("flash_attn",),
        namespaced=False,
        max_capability=90,
    ),
)


def find_release(version: str) -> Release:
    """Return the release of that version. Raise `UsageError` naming the known ones."""
    for release in RELEASES:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in RELEASES)
    raise UsageError(
        f"flash-attn {version} is not one that this tool compiles itself (it knows {known})",
        code="unknown-release",
        hints=["name a tree with `provision build --source PATH|URL --sha256 …`: its own setup.py is then run"],
    )
