"""The files of the adapter's package, as they go into its wheel."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from provisioner.adapter.kernels import AdapterVersion

FOLDER = Path(__file__).resolve().parent / "flash_attn"
_ABOUT = "_about.py"


def package_files(version: AdapterVersion) -> dict[str, bytes]:
    """Return archive name → content of every Python file, with the version written in."""
    files = {}
    for path in sorted(FOLDER.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path.name == _ABOUT:
            text = _written(text, version)
        files[f"flash_attn/{path.relative_to(FOLDER).as_posix()}"] = text.encode()
    return files


def _written(text: str, version: AdapterVersion) -> str:
    """Return the source with its two version lines replaced: the base for those who compare it, and the whole."""
    for name, value in (("__version__", version.base), ("__build__", str(version))):
        text, count = re.subn(rf'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
        assert count == 1, f"{_ABOUT} must have one line that sets {name}"
    return text


def sources_sha256() -> str:
    """Return the digest of the package's sources: file names and contents, whatever their version says."""
    total = hashlib.sha256()
    for path in sorted(FOLDER.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(FOLDER).as_posix()}\0{content}\n".encode())
    return total.hexdigest()
