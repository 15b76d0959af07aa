"""A local conda channel for tests, made of what is at hand: this CPython, pip and ninja as real conda packages."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SKIPPED = {
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "site-packages",
    "__pycache__",
    "lib2to3",
    "pydoc_data",
}
PLATFORM = "linux-64" if platform.machine() == "x86_64" else "linux-aarch64"


def make_channel(root: Path) -> Path:
    """Write the channel with ``python``, ``pip`` and ``ninja`` and return its root."""
    version = platform.python_version()
    minor = ".".join(version.split(".")[:2])
    python = add_package(root, "python", version, dict(_cpython()), depends=["__glibc >=2.17"])
    pip = _installed("pip", f"lib/python{minor}/site-packages")
    add_package(root, "pip", _version("pip"), dict(pip), depends=[f"python >={minor}"])
    add_package(root, "ninja", "1.13.0", {"bin/ninja": (_ninja(), 0o755)})
    assert python.exists()
    return root


def add_package(
    root: Path,
    name: str,
    version: str,
    files: Mapping[str, tuple[bytes, int]],
    *,
    depends: list[str] | None = None,
    subdir: str = PLATFORM,
    noarch: str | None = None,
) -> Path:
    """Write one ``.conda`` package into the channel and its repodata; return its path."""
    build = "0"
    index: dict[str, Any] = {
        **{"name": name, "version": version, "build": build, "build_number": 0, "subdir": subdir},
        **{"depends": depends or [], "license": "test", "timestamp": 1_760_000_000_000},
    }
    if noarch:
        index["noarch"] = noarch
    rows = [
        {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        for path, (data, _) in files.items()
    ]
    info = {
        "info/index.json": (json.dumps(index).encode(), 0o644),
        "info/paths.json": (json.dumps({"paths": rows, "paths_version": 1}).encode(), 0o644),
    }
    folder = root / subdir
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{version}-{build}"
    path = folder / f"{stem}.conda"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
        archive.writestr(f"info-{stem}.tar.zst", _tar_zst(info))
        archive.writestr(f"pkg-{stem}.tar.zst", _tar_zst(files))
    data = path.read_bytes()
    row = {**index, "sha256": hashlib.sha256(data).hexdigest(), "md5": hashlib.md5(data).hexdigest(), "size": len(data)}
    for place in {subdir, "noarch"}:
        repodata = root / place / "repodata.json"
        repodata.parent.mkdir(exist_ok=True)
        content: dict[str, Any] = {"info": {"subdir": place}, "packages": {}, "packages.conda": {}}
        if repodata.exists():
            content = json.loads(repodata.read_text())
        if place == subdir:
            content["packages.conda"][path.name] = row
        repodata.write_text(json.dumps(content))
    return path


def _tar_zst(files: Mapping[str, tuple[bytes, int]]) -> bytes:
    import zstandard

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, (data, mode) in files.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode, member.mtime = len(data), mode, 1_760_000_000
            archive.addfile(member, io.BytesIO(data))
    compressed: bytes = zstandard.ZstdCompressor(level=1).compress(buffer.getvalue())
    return compressed


def _cpython() -> Iterator[tuple[str, tuple[bytes, int]]]:
    base = Path(sys.base_prefix)
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = (base / "bin" / minor).resolve()
    for name in (minor, "python3", "python"):
        yield f"bin/{name}", (program.read_bytes(), 0o755)
    library = sysconfig.get_config_var("LDLIBRARY")
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        yield f"lib/{library}", ((base / "lib" / library).resolve().read_bytes(), 0o755)
    for root in (base / "lib" / minor, base / "include" / minor):
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(base)
            if path.is_file() and not path.name.endswith(".a") and SKIPPED.isdisjoint(relative.parts):
                yield str(relative), (path.read_bytes(), 0o755 if path.suffix == ".so" else 0o644)
    yield f"lib/{minor}/site-packages/README.txt", (b"", 0o644)


def _installed(name: str, target: str) -> Iterator[tuple[str, tuple[bytes, int]]]:
    from importlib.metadata import distribution

    for file in distribution(name).files or []:
        path = Path(str(file.locate()))
        if path.is_file() and ".." not in file.parts and "__pycache__" not in file.parts:
            yield f"{target}/{file}", (path.read_bytes(), 0o644)


def _version(name: str) -> str:
    from importlib.metadata import version

    return version(name)


def _ninja() -> bytes:
    import ninja

    return Path(ninja.BIN_DIR, "ninja").read_bytes()
