"""Real environments, broken on purpose: venvs into which small wheels are installed by pip, without any network."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import venv
import zipfile
from pathlib import Path

from provisioner.process import run


def make_venv(prefix: Path, *, with_pip: bool = True) -> Path:
    """Create a virtual environment and return its interpreter."""
    venv.EnvBuilder(with_pip=with_pip, symlinks=True).create(prefix)
    return prefix / "bin" / "python"


def site_packages(python: Path) -> Path:
    """Return the site-packages of a venv's interpreter."""
    return python.parent.parent / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def make_wheel(folder: Path, name: str, version: str, files: dict[str, str | bytes], *, requires: tuple[str, ...] = ()) -> Path:
    """Write a valid pure wheel (RECORD with hashes) and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = "\n".join(
        ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {one}" for one in requires), "", ""]
    )
    contents = {
        **{path: text.encode() if isinstance(text, str) else text for path, text in files.items()},
        f"{info}/METADATA": metadata.encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_hash(data)},{len(data)}" for path, data in contents.items()] + [f"{info}/RECORD,,"]
    wheel = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in {**contents, f"{info}/RECORD": ("\n".join(record) + "\n").encode()}.items():
            archive.writestr(path, data)
    return wheel


def _hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def install(python: Path, *wheels: Path) -> None:
    """Install wheels without index and dependencies, as pip would, but faster."""
    _uv("install", "--python", str(python), "--no-index", "--no-deps", "--no-config", *map(str, wheels))


def uninstall(python: Path, *names: str) -> None:
    """Remove packages."""
    _uv("uninstall", "--python", str(python), "--no-config", *names)


def _uv(*words: str) -> None:
    result = run([sys.executable, "-m", "uv", "pip", *words], timeout=120, env={**os.environ, "PYTHONPATH": ""})
    assert result.ok, result.err
