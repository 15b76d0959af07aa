"""A wheel written by us, byte for byte the same for the same input: sorted entries, one fixed time, a RECORD that is right."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from provisioner import __version__
from provisioner.building.releases import Release

FIXED_TIME = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip entry can hold; so no clock shows in the bytes."""

LEVEL = 6


def record_hash(data: bytes) -> str:
    """Return the hash of a file as RECORD wants it: ``sha256=`` and URL-safe base64 without padding (binary distribution format)."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def write_wheel(path: Path, dist_info: str, files: Mapping[str, bytes], *, executable: Iterable[str] = ()) -> Path:
    """Write ``files`` (archive name → content) and their RECORD as the wheel ``path`` and return it; whole or not at all."""
    record_name = f"{dist_info}/RECORD"
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    ordered = sorted(files, key=lambda name: (name.startswith(f"{dist_info}/"), name))  # metadata last, as the format recommends
    rows.writerows((name, record_hash(files[name]), len(files[name])) for name in ordered)
    rows.writerow((record_name, "", ""))
    entries = [(name, files[name]) for name in ordered] + [(record_name, text.getvalue().encode())]
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    programs = set(executable)
    try:
        with os.fdopen(handle, "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as bundle:
                for name, data in entries:
                    info = zipfile.ZipInfo(name, FIXED_TIME)
                    info.compress_type = zipfile.ZIP_DEFLATED
                    info.create_system = 3  # Unix: the mode below counts, on whatever system this ran
                    info.external_attr = (0o100755 if name in programs else 0o100644) << 16
                    bundle.writestr(info, data, compresslevel=LEVEL)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    return path


def python_files(source: Path, release: Release) -> dict[str, bytes]:
    """Return the Python files that upstream's setup.py packages: every package below the release's top-level ones.

    A folder without ``__init__.py`` ends the search, as setuptools' ``find_packages`` does.
    """
    found: dict[str, bytes] = {}
    folders = [source / name for name in release.packages]
    while folders:
        folder = folders.pop()
        if not (folder / "__init__.py").is_file():
            continue
        for path in folder.iterdir():
            if path.is_dir():
                folders.append(path)
            elif path.suffix == ".py":
                found[path.relative_to(source).as_posix()] = path.read_bytes()
    return found


def metadata(source: Path, release: Release, version: str) -> bytes:
    """Return METADATA: the sdist's own PKG-INFO with our version, and upstream's requirements where it lacks them.

    (PKG-INFO of 1.0.9 and 2.6.3 states no Requires-Dist; setup.py does.)
    """
    head, _, body = (source / "PKG-INFO").read_text(encoding="utf-8").partition("\n\n")
    lines = [line for line in head.splitlines() if not line.startswith(("Version:", "Requires-Dist:", "License-File:"))]
    lines = [line for line in lines if line.partition(":")[2].strip() != "UNKNOWN"]
    at = next(index for index, line in enumerate(lines) if line.startswith("Name:")) + 1
    lines.insert(at, f"Version: {version}")
    if not any(line.startswith("Requires-Python:") for line in lines):
        lines.append(f"Requires-Python: {release.requires_python}")
    lines += [f"Requires-Dist: {name}" for name in release.requires]
    return ("\n".join(lines) + "\n\n" + body).encode()


def wheel_file(tag: str, *, pure: bool = False) -> bytes:
    """Return the WHEEL file for a wheel with this tag; ``pure`` says that nothing in it is compiled."""
    return f"Wheel-Version: 1.0\nGenerator: provision {__version__}\nRoot-Is-Purelib: {str(pure).lower()}\nTag: {tag}\n".encode()
