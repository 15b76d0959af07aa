"""Changing one distribution of somebody else's environment so that it can be undone completely."""

from __future__ import annotations

import csv
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def find_distribution(site_packages: Path, name: str) -> Path | None:
    """Return the ``.dist-info`` directory of the installed distribution ``name``, None when it is not installed."""
    wanted = _normalised(name)
    for info in sorted(site_packages.glob("*.dist-info")):
        if _normalised(info.stem.partition("-")[0]) == wanted:
            return info
    return None


def files_of(info: Path) -> list[Path]:
    """Return the existing files that a distribution's RECORD lists, its ``.dist-info`` among them, as absolute paths."""
    site_packages = info.parent
    record = info / "RECORD"
    listed = [row[0] for row in csv.reader(record.read_text().splitlines()) if row] if record.exists() else []
    found = {(site_packages / name).absolute() for name in listed} | {
        path.absolute() for path in info.rglob("*") if path.is_file()
    }
    return sorted(path for path in found if path.is_file())


@contextmanager
def restored_on_failure(site_packages: Path, name: str) -> Iterator[None]:
    """Put the distribution ``name`` back exactly as it was when the block fails or is interrupted; absent stays absent."""
    info = find_distribution(site_packages, name)
    with tempfile.TemporaryDirectory(prefix="provision-undo-") as folder:
        saved = {path: Path(folder, str(number)) for number, path in enumerate(files_of(info) if info else [])}
        for path, copy in saved.items():
            shutil.copy2(path, copy)
        try:
            yield
        except BaseException:
            delete_distribution(site_packages, name)
            for path, copy in saved.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(copy, path)
            raise


def delete_distribution(site_packages: Path, name: str) -> None:
    """Delete the files of the distribution ``name`` and the directories that this leaves empty."""
    info = find_distribution(site_packages, name)
    if info is None:
        return
    parents: set[Path] = set()
    for path in files_of(info):
        path.unlink()
        parents.update(parent for parent in path.parents if site_packages in parent.parents)
    for parent in sorted(parents, key=lambda path: len(path.parts), reverse=True):
        shutil.rmtree(parent / "__pycache__", ignore_errors=True)
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
