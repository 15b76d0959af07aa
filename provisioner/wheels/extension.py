"""What one compiled file holds: architectures, stubs, ABI, floors; and, against a torch, what would stay undefined."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from provisioner.wheels.dry_link import Demand, demand_of, link
from provisioner.wheels.elf import MAGIC, Elf, mapped
from provisioner.wheels.fatbin import Image, images_of
from provisioner.wheels.inspection import Extension, sort_archs
from provisioner.wheels.linkage import Linkage, read_linkage
from provisioner.wheels.stubs import stub_archs


def inspect_extension(
    path: Path, *, against: Path | None = None, name: str | None = None, beside: Iterable[Path] = ()
) -> Extension:
    """Return what one extension or object file holds, linked against the torch libraries in ``against`` where given.

    ``name`` is the path to report; ``beside`` are the folders of the libraries that come along with it.
    Raise `MalformedBinary` when it is no ELF file or damaged.
    """
    with mapped(path) as data:
        elf = Elf(data, path.name)
        images = images_of(elf)
        found = from_linkage(name or str(path), len(data), read_linkage(elf))
        found = replace(
            found,
            archs=sort_archs(image.arch for image in images),
            stubs=sort_archs(stub_archs(data, images)),
            images=count_images(images),
        )
    return linked(found, demand_of(path, beside), against) if against else found


def count_images(images: Iterable[Image]) -> dict[str, int]:
    """Return how many pieces of device code there are for each architecture, in order of the architectures."""
    counts = Counter(image.arch for image in images)
    return {arch: counts[arch] for arch in sort_archs(counts)}


def from_linkage(name: str, size: int, linkage: Linkage) -> Extension:
    """Return an extension with the facts of its linkage."""
    return Extension(
        name,
        size,
        abi=linkage.abi,
        glibc=linkage.glibc,
        glibcxx=linkage.glibcxx,
        cudart=linkage.cudart,
        cuda_major=linkage.cuda_major,
        needed=linkage.needed,
        torch_libs=linkage.torch_libs,
    )


def linked(found: Extension, demand: Demand, against: Path) -> Extension:
    """Return ``found`` with the result of linking ``demand`` against the torch libraries in ``against``."""
    result = link(demand, against)
    return replace(
        found,
        undefined=result.missing_symbols,
        missing_libraries=result.missing_libraries,
        missing_versions=result.missing_versions,
    )


def starts_as_elf(path: Path) -> bool:
    """Say whether the file is an ELF file; a ``.so`` may also be a linker script."""
    with path.open("rb") as file:
        return file.read(4) == MAGIC
