"""Inspecting: what a wheel, an extension file or the flash-attn of an environment really holds, without importing it or having a GPU.

File names and labels lie (flash-attention issues 1717 and 1783); the binary does not: architectures from the device code, C++ ABI
from one symbol, floors from symbol versions, the CUDA runtime from the needed libraries.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from provisioner import download, paths, progress
from provisioner.errors import SourceUnreachable, UsageError
from provisioner.wheels.extension import inspect_extension, starts_as_elf
from provisioner.wheels.filename import WheelName
from provisioner.wheels.inspection import Inspection, Subject, with_extensions
from provisioner.wheels.installed import find_installed
from provisioner.wheels.python_side import missing_module
from provisioner.wheels.remote_wheel import inspect_remote
from provisioner.wheels.wheel_file import adapter_note, has_kernels, inspect_wheel

SUBJECTS = "give a wheel (path or URL), a .so file, an environment's folder, or its bin/python"


def inspect(subject: str | Path, *, against: Path | None = None, package: str = "flash-attn") -> Inspection:
    """Return what ``subject`` holds: a wheel (path or URL), an extension file, an environment's prefix or its Python.

    ``against`` is the ``torch/lib`` directory to link against (see `provisioner.wheels.torch_facts`); an environment is linked against its own
    torch. ``package`` is the distribution looked at in an environment. A remote wheel is read over HTTP ranges, in part if it is large.
    Raise `MalformedBinary` (exit 5), `SourceUnreachable` (exit 4) or `UsageError` (exit 2).
    """
    text = str(subject)
    scheme = urlsplit(text).scheme
    if scheme in ("http", "https"):
        return _inspect_url(text, against)
    if scheme and "://" in text and scheme != "file":
        raise UsageError(
            f"{scheme} is not a protocol that is spoken here", hints=["give an http, https or file URL"], code="bad-url"
        )
    path = Path(unquote(urlsplit(text).path)) if scheme == "file" else Path(subject)
    if path.is_dir() or _is_interpreter(path):
        return _inspect_environment(path, against, package)
    if not path.is_file():
        raise UsageError(
            f"no such file or environment: {path}",
            hints=[SUBJECTS, "`provision list` names the environments made here"],
            code="no-such-subject",
        )
    return inspect_wheel(path, against) if path.suffix == ".whl" else _inspect_file(path, against)


def _is_interpreter(path: Path) -> bool:
    return re.fullmatch(r"(?:python|pypy)[\d.]*", path.name) is not None and path.is_file()


def _inspect_file(path: Path, against: Path | None) -> Inspection:
    if ".so" not in path.suffixes and path.suffix != ".o" and not starts_as_elf(path):
        raise UsageError(
            f"{path} is neither a wheel nor a compiled file",
            hints=[SUBJECTS],
            code="no-such-subject",
        )
    empty = Inspection(str(path), Subject.EXTENSION, against=str(against) if against else None)
    found = with_extensions(empty, [inspect_extension(path, against=against)])
    return replace(found, kernels=has_kernels(found))


def _inspect_url(url: str, against: Path | None) -> Inspection:
    try:
        return inspect_remote(url, against)
    except SourceUnreachable as error:
        if error.code != "ranges-unsupported":
            raise
    filename = WheelName.parse(url).filename
    progress.note(f"{urlsplit(url).hostname} serves no byte ranges: fetching the whole of {filename}")
    with paths.scratch_dir("wheel") as folder:
        path = download.fetch(url, folder / filename)
        found, size = inspect_wheel(path, against), path.stat().st_size
    note = "the server serves no byte ranges, so the whole wheel was fetched"
    return replace(found, subject=download.redact(url), bytes_read=size, bytes_total=size, notes=(*found.notes, note))


def _inspect_environment(path: Path, against: Path | None, package: str) -> Inspection:
    found = find_installed(path, package)
    libraries = against or found.torch_lib_dir
    empty = Inspection(
        str(path),
        Subject.ENVIRONMENT,
        distribution=found.distribution,
        version=found.version,
        torch=WheelName.torch_of(found.version),
        missing_module=missing_module(
            found.distribution, [name for name, file in found.files if file.exists()], found.interfaces()
        ),
        against=str(libraries) if libraries else None,
    )
    compiled = [(name, file) for name, file in found.files if ".so" in Path(name).suffixes and file.is_file()]
    extensions = [inspect_extension(file, against=libraries, name=name) for name, file in compiled if starts_as_elf(file)]
    notes = adapter_note([found.summary])
    if not libraries:
        notes = (*notes, "there is no torch in this environment: symbols were not checked")
    result = with_extensions(empty, extensions)
    return replace(result, kernels=has_kernels(result), notes=notes)
