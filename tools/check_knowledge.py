"""Compare the tables of ``provisioner/knowledge/data`` with the package index: what is new there, and what no longer agrees.

    python tools/check_knowledge.py

Prints one line per release that a table lacks and one per file hash that differs; leaves with 1 if a hash differs. What a new release
supports has to be read in its files before it becomes a row; this tool says only that it is there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

from packaging.version import Version
from pypi_simple import DistributionPackage, PyPISimple

from provisioner.knowledge import flash_attn, packages, torch_builds

KNOWN = {
    "flash-attn": [release.version for release in flash_attn.releases()],
    "torch": list(torch_builds.releases()),
    "xformers": [release.xformers for release in packages.xformers()],
    "triton": [release.triton for release in packages.triton()],
    "unsloth": [release.unsloth for release in packages.unsloth()],
}


def newer(known: Iterable[str], files: Iterable[DistributionPackage]) -> tuple[str, ...]:
    """Return the final releases among ``files`` that are newer than all known ones, oldest first."""
    newest = max(map(Version, known))
    found = {Version(file.version) for file in files if file.version and not file.is_yanked}
    return tuple(str(version) for version in sorted(found) if version > newest and not version.is_prerelease)


def changed_hashes(files: Iterable[DistributionPackage]) -> Iterator[str]:
    """Yield the source distributions of flash-attn whose sha256 is not the table's."""
    stated = {file.filename: file.digests.get("sha256") for file in files}
    for release in flash_attn.releases():
        if stated.get(release.sdist) != release.sha256:
            yield f"{release.sdist}: the index says {stated.get(release.sdist)}, the table {release.sha256}"


def main() -> int:
    """Print what differs and return the exit code."""
    wrong: list[str] = []
    with PyPISimple() as index:
        for project, known in KNOWN.items():
            files = index.get_project_page(project).packages
            for version in newer(known, files):
                print(f"{project} {version}: not in the table")
            if project == "flash-attn":
                wrong = list(changed_hashes(files))
    print("\n".join(wrong) or "every hash agrees")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
