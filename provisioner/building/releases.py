"""The releases of flash-attn that this tool compiles: where each sdist's kernels lie and how they are split into units.

Hash, date, Python and C++ standard of a release stand in `provisioner.knowledge.flash_attn`; what only a build needs stands here.
Source: the sdists on the package index and their setup.py, read 2026-11-24; 2.7.3, 2.8.0.post2 to 2.8.3.post1 on 2026-11-27. A release that is not here is built through
its own setup.py (`provisioner.building.foreign`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provisioner.errors import UsageError
from provisioner.knowledge import flash_attn


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


_SOURCES = "csrc/flash_attn/src"


def _release(version: str, **fields: Any) -> Release:
    known = flash_attn.release(version)
    assert known is not None
    return Release(
        version=version,
        sha256=known.sha256,
        uploaded=known.released,
        requires_python=known.requires_python,
        cxx_standard=known.cxx_standard,
        **fields,
    )


def _second(
    version: str, size: int, head_dims: tuple[int, ...] = (32, 64, 96, 128, 192, 256), *, namespaced: bool = True
) -> Release:
    return _release(
        version,
        size=size,
        generation=2,
        extension="flash_attn_2_cuda",
        api="csrc/flash_attn/flash_api.cpp",
        sources=_SOURCES,
        includes=("csrc/flash_attn", "csrc/flash_attn/src", "csrc/cutlass/include"),
        head_dims=head_dims,
        min_capability=80,
        requires=("torch", "einops"),
        namespaced=namespaced,
    )


_HEAD_DIMS_2_7 = (32, 64, 96, 128, 160, 192, 256)
_SIZES_2_8 = {
    "2.8.3.post2": 8453127,
    "2.8.3.post1": 8451657,
    "2.8.3": 8447812,
    "2.8.2": 8167111,
    "2.8.1": 8166563,
    "2.8.0.post2": 7857730,
}

RELEASES: tuple[Release, ...] = (
    *(_second(version, size) for version, size in _SIZES_2_8.items()),
    _second("2.7.4.post1", 5986610, _HEAD_DIMS_2_7),
    _second("2.7.3", 3223463, _HEAD_DIMS_2_7, namespaced=False),
    _second("2.6.3", 2631958, _HEAD_DIMS_2_7, namespaced=False),
    _release(
        "1.0.9",
        size=1815217,
        generation=1,
        extension="flash_attn_cuda",
        api="csrc/flash_attn/fmha_api.cpp",
        sources=_SOURCES,
        includes=("csrc/flash_attn", "csrc/flash_attn/src", "csrc/flash_attn/cutlass/include"),
        head_dims=(32, 64, 128),
        min_capability=75,
        requires=("torch", "einops", "packaging", "ninja"),
        packages=("flash_attn",),
        namespaced=False,
        max_capability=90,
    ),
)

COMPILED = tuple(release.version for release in RELEASES)
"""Their versions, the newest of each generation first."""


def find_release(version: str) -> Release:
    """Return the release of that version. Raise `UsageError` naming the known ones."""
    for release in RELEASES:
        if release.version == version:
            return release
    known = ", ".join(release.version for release in RELEASES)
    corrected = [release.version for release in RELEASES if release.version.startswith(f"{version}.post")]
    raise UsageError(
        f"flash-attn {version} is not one that this tool compiles itself (it knows {known})",
        code="unknown-release",
        hints=[
            *(f"--version {later}, the same release with corrections" for later in corrected),
            "name a tree with `provision build --source PATH|URL --sha256 …`: its own setup.py is then run",
        ],
    )
