"""What is installed in this Python: versions, copies, files that are gone, what interrupted installs left; read from files alone."""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os
import re
import sys
from typing import Any

WATCHED = (
    "torch", "triton", "xformers", "flash-attn", "bitsandbytes", "unsloth", "unsloth-zoo", "transformers", "trl", "peft",
    "accelerate", "datasets", "huggingface-hub", "vllm", "torchvision", "torchaudio", "numpy", "ninja", "packaging", "pip",
)  # fmt: skip
MODULES = (
    "torch", "triton", "xformers", "flash_attn", "bitsandbytes", "unsloth", "unsloth_zoo", "transformers", "trl", "peft",
    "accelerate", "datasets", "torchvision", "numpy",
)  # fmt: skip
"""Folders of watched packages: one without its record is half of an install."""

SAMPLE = 200
"""Files of a record that are compared with the disk where a package has two records in one folder."""


def distributions() -> dict[str, list[tuple[Any, str]]]:
    """Return every installed copy of every package with the folder it lies in, the imported one first."""
    from importlib import metadata

    found: dict[str, list[tuple[Any, str]]] = {}
    for entry in dict.fromkeys(os.path.realpath(entry) for entry in sys.path if entry and os.path.isdir(entry)):
        for one in metadata.distributions(path=[entry]):
            where = os.path.basename(str(getattr(one, "_path", "")))
            name = normal(one.metadata["Name"] or "")
            if name and not where.startswith("~"):  # pip's own name for what it was about to remove
                found.setdefault(name, []).append((one, entry))
    return found


def versions(found: dict[str, list[tuple[Any, str]]]) -> dict[str, str]:
    """Return the version of the copy of each package that is imported."""
    return {name: str(copies[0][0].version) for name, copies in sorted(found.items())}


def copies(found: dict[str, list[tuple[Any, str]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the copies of the watched packages, of CUDA's libraries, and of any package that is there more than once."""
    return {
        name: [copy_of(one, entry, name, several=len(those) > 1) for one, entry in those]
        for name, those in sorted(found.items())
        if name in WATCHED or name.startswith("nvidia-") or len(those) > 1
    }


def copy_of(one: Any, entry: str, name: str, *, several: bool) -> dict[str, Any]:
    """Return one installed copy: where it lies, who installed it, what it requires, and what of it is not there."""
    files = recorded(one)
    gone = [file for file in files if is_needed(file) and not os.path.exists(os.path.join(entry, file))]
    copy = {
        "version": one.version or "unknown",
        "location": entry,
        "metadata": str(getattr(one, "_path", entry)),
        "installer": (one.read_text("INSTALLER") or "").strip() or None,
        "requires": [line for line in (one.requires or []) if "extra ==" not in line] if name in WATCHED else [],
        "missing": sorted(gone, key=lambda file: file.endswith(".py"))[:5],
        "missing_count": len(gone),
    }
    if several:
        copy["matches"] = matching(entry, files)
    if name == "flash-attn":
        copy.update(flash_attn_parts(one, entry, files))
    return copy


def flash_attn_parts(one: Any, entry: str, files: dict[str, str]) -> dict[str, Any]:
    """Return flash-attn's compiled parts, and which kernels lie under an adapter's functions (its wheel says so itself)."""
    own = [os.path.join(entry, file) for file in files if file.endswith((".so", ".pyd"))]
    for pattern in ("flash_attn_[23]_cuda*", "flash_attn/*.so"):
        own += glob.glob(os.path.join(glob.escape(entry), pattern))
    try:
        adapter = json.loads(one.read_text("provenance.json") or "{}").get("adapter")
    except (ValueError, AttributeError):
        adapter = None
    return {"extensions": sorted({file for file in own if os.path.exists(file)}), "adapter": adapter}


def recorded(one: Any) -> dict[str, str]:
    """Return the files of a package and their hashes as its RECORD states them.

    Read as text: from Python 3.12 on ``Distribution.files`` leaves out what is not there.
    """
    try:
        text = one.read_text("RECORD") or ""
    except ValueError:  # not UTF-8: damaged, and no reason to see nothing else
        text = ""
    rows = (line.rsplit(",", 2) for line in text.splitlines())
    return {row[0].strip('"'): row[1] for row in rows if len(row) == 3}


def is_needed(file: str) -> bool:
    """Say whether a package lacks something without this file; images are often made smaller by removing tests and caches."""
    return bool(re.search(r"\.(py|pyd|so(\.\d+)*)$", file)) and not re.search(r"^\.\.|(^|/)(tests?|benchmarks?)/", file)


def matching(entry: str, files: dict[str, str]) -> float:
    """Return the share of a record's files that are on the disk as it states them: 1 for the one that was installed last."""
    stated = [(file, value[7:]) for file, value in sorted(files.items()) if value.startswith("sha256=")]
    sample = stated[:: max(1, len(stated) // SAMPLE)]
    same = sum(digest(os.path.join(entry, file)) == value for file, value in sample)
    return round(same / len(sample), 3) if sample else 0.0


def digest(path: str) -> str:
    """Return a file's sha256 as a RECORD writes it, empty where it cannot be read or is large."""
    try:
        if os.path.getsize(path) > 1 << 22:
            return ""
        with open(path, "rb") as file:
            return base64.urlsafe_b64encode(hashlib.sha256(file.read()).digest()).rstrip(b"=").decode()
    except OSError:
        return ""


def normal(name: str) -> str:
    """Return a distribution's name in its normal form."""
    return re.sub(r"[-_.]+", "-", name).lower()


def remnants() -> list[str]:
    """Return what pip had set aside (``~orch``) when it was interrupted: it deletes these itself when it ends well."""
    found = [path for entry in site_folders() for path in glob.glob(os.path.join(glob.escape(entry), "~*"))]
    return sorted(found)[:20]


def without_record(found: dict[str, list[tuple[Any, str]]]) -> list[str]:
    """Return the folders of watched packages of which no record is left."""
    return [
        os.path.join(entry, module)
        for entry in site_folders()
        for module in MODULES
        if normal(module) not in found and holds_code(os.path.join(entry, module)) and not is_owned(entry, module)
    ]


def holds_code(folder: str) -> bool:
    """Say whether anything that can be imported lies in ``folder``; what Python keeps of it does not count."""
    files = (name for at, _, names in os.walk(folder) if "__pycache__" not in at for name in names)
    return any(name.endswith((".py", ".pyd", ".so")) for name in files)


def is_owned(entry: str, module: str) -> bool:
    """Say whether a distribution of another name put files into ``module``: flash-attn-4 into flash_attn, pytorch-triton into triton."""
    for path in glob.glob(os.path.join(glob.escape(entry), "[!~]*.dist-info", "RECORD")):
        try:
            with open(path, encoding="utf-8", errors="replace") as record:
                if any(line.startswith((module + "/", '"' + module + "/")) for line in record):
                    return True
        except OSError:
            continue
    return False


def site_folders() -> list[str]:
    """Return the folders of ``sys.path`` into which installers write."""
    real = (os.path.realpath(entry) for entry in sys.path if entry)
    return [entry for entry in dict.fromkeys(real) if entry.endswith(("site-packages", "dist-packages")) and os.path.isdir(entry)]


def conda_records() -> dict[str, str]:
    """Return the versions of the watched packages as conda's own records state them; empty outside a conda prefix."""
    found = {}
    for path in glob.glob(os.path.join(glob.escape(sys.prefix), "conda-meta", "*.json")):
        parts = os.path.basename(path)[: -len(".json")].rsplit("-", 2)
        name = {"pytorch": "torch"}.get(parts[0], parts[0])
        if len(parts) == 3 and normal(name) in WATCHED:
            found[normal(name)] = parts[1]
    return found
