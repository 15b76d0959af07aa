"""A virtual environment copied to another path, with its own path rewritten wherever it is written into text.

    python -m provisioner.diagnosing.relocation PREFIX TARGET

An environment cannot be moved: its path stands in shebang lines, activation scripts and ``.pth`` files. Compiled files find their
libraries relative to themselves (``$ORIGIN``) in wheels. The original stays as it is; the copy appears under its name when it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from provisioner.errors import ProvisionError, UsageError
from provisioner.process import run

COPY_SECONDS = 1500.0
TEXT_LIMIT = 1 << 20
"""Scripts and path files are far smaller."""


def copy_venv(prefix: Path, target: Path) -> None:
    """Copy the virtual environment ``prefix`` to ``target``. Raise `UsageError` where that cannot be, `ProvisionError` where it fails."""
    if not (prefix / "pyvenv.cfg").is_file():
        raise UsageError(
            f"{prefix} is no virtual environment", hints=["a conda environment: conda create --clone"], code="no-venv"
        )
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already", hints=["remove it, or name another"], code="exists")
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_space(prefix, target.parent)
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        copied = run(["cp", "-a", "--reflink=auto", str(prefix), str(half)], timeout=COPY_SECONDS)
        if not copied.ok:
            raise ProvisionError(
                f"{prefix} could not be copied",
                why=copied.err.strip().splitlines()[-1] if copied.err.strip() else None,
                hints=["name a place where you may write and that has room for it"],
            )
        for path in _texts(half):
            _rewrite(path, os.fsencode(prefix), os.fsencode(target))
        for path in _links(half):
            _relink(path, prefix, target)
        os.rename(half, target)  # noqa: PTH104 - fails where the target has appeared meanwhile
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _check_space(prefix: Path, folder: Path) -> None:
    size = sum(path.lstat().st_blocks * 512 for path in prefix.rglob("*"))
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UsageError(
            f"{folder} has {free >> 20} MiB free, {prefix} takes {size >> 20}", hints=["free space there first"], code="no-space"
        )


def _texts(prefix: Path) -> Iterator[Path]:
    """The files that hold their environment's path: scripts, activation, configuration, path files."""
    yield prefix / "pyvenv.cfg"
    yield from (path for path in (prefix / "bin").iterdir() if path.is_file() and not path.is_symlink())
    for site in prefix.glob("lib/python3.*/site-packages"):
        yield from (
            path
            for pattern in ("*.pth", "*.egg-link", "__editable__*.py")
            for path in site.glob(pattern)
            if not path.is_symlink()
        )


def _rewrite(path: Path, old: bytes, new: bytes) -> None:
    if path.stat().st_size > TEXT_LIMIT:
        return
    data = path.read_bytes()
    written = re.sub(re.escape(old) + rb"(?![\w.+-])", lambda _: new, data)  # not of a neighbour whose name only begins so
    if written != data and b"\0" not in data:
        path.write_bytes(written)


def _links(prefix: Path) -> Iterator[Path]:
    yield from (path for path in prefix.glob("*") if path.is_symlink())
    yield from (path for path in (prefix / "bin").iterdir() if path.is_symlink())


def _relink(path: Path, old: Path, new: Path) -> None:
    """Point a link that names the old environment by its full path at the new one."""
    aim = Path(os.readlink(path))  # noqa: PTH115 - the text of the link
    if aim.is_relative_to(old):
        path.unlink()
        path.symlink_to(new / aim.relative_to(old))


def main(words: list[str]) -> int:
    """Copy, and return the exit code."""
    try:
        copy_venv(Path(words[0]), Path(words[1]))
    except ProvisionError as error:
        sys.stderr.write(f"{error.what}" + (f": {error.why}" if error.why else "") + "\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
