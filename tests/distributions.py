"""Small real distributions for tests: wheels that pip and uv install, made in memory."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    tag: str = "py3-none-any",
    files: Mapping[str, str | bytes] | None = None,
    requires: Sequence[str] = (),
) -> Path:
    """Write a wheel and return its path; without ``files`` it holds a module of its own name with ``__version__``."""
    stem = name.replace("-", "_")
    contents: dict[str, str | bytes] = dict(
        files if files is not None else {f"{stem}/__init__.py": f"__version__ = {version!r}\n"}
    )
    info = f"{stem}-{version}.dist-info"
    needed = "".join(f"Requires-Dist: {line}\n" for line in requires)
    contents[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}"
    contents[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: false\nTag: {tag}\n"
    record = ""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in contents.items():
            raw = data.encode() if isinstance(data, str) else data
            entry = zipfile.ZipInfo(member, (2026, 1, 1, 0, 0, 0))
            entry.external_attr = (0o100755 if raw.startswith(b"#!") else 0o100644) << 16  # a script is a program
            archive.writestr(entry, raw)
            value = base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
            record += f"{member},sha256={value},{len(raw)}\n"
        archive.writestr(zipfile.ZipInfo(f"{info}/RECORD", (2026, 1, 1, 0, 0, 0)), record + f"{info}/RECORD,,\n")
    return path
