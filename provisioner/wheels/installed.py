"""A distribution in an environment: its files and the torch beside it, read from metadata only; nothing is imported."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioner import process
from provisioner.errors import UsageError
from provisioner.wheels.python_side import interface_files

_ASK = "import json, site, sysconfig; p = sysconfig.get_paths(); s = getattr(site, 'getsitepackages', list)(); print(json.dumps([p['purelib'], p['platlib'], *s]))"
_ASK_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed distribution. ``files`` are (path in the distribution, path on disk); ``torch_lib_dir`` None means: no torch there."""

    distribution: str
    version: str
    files: tuple[tuple[str, Path], ...]
    torch_lib_dir: Path | None
    summary: str = ""

    def interfaces(self) -> dict[str, str]:
        """Return the Python files that import the kernels, with their text."""
        wanted = interface_files(name for name, _ in self.files)
        return {name: path.read_text(errors="replace") for name, path in self.files if name in wanted and path.is_file()}


def site_packages(environment: Path) -> tuple[Path, ...]:
    """Return the package directories of an environment, given its prefix, its Python or such a directory itself.

    Raise `UsageError` when it has none.
    """
    if (environment / "torch" / "lib").is_dir() or environment.name in ("site-packages", "dist-packages"):
        return (environment,)
    prefix = environment if environment.is_dir() else environment.parent.parent
    found = [
        path
        for pattern in ("lib/python3*/site-packages", "lib64/python3*/site-packages")
        for path in sorted(prefix.glob(pattern))
    ]
    if environment.is_file() and (not found or not (prefix / "pyvenv.cfg").is_file()):
        found = [*found, *_asked(environment)]
    unique = tuple(dict.fromkeys(path.resolve() for path in found if path.is_dir()))
    if not unique:
        raise UsageError(
            f"{environment} is no Python environment",
            hints=["give the folder that contains lib/python3.*/site-packages, or the path of its bin/python"],
            code="no-such-environment",
        )
    return unique


def _asked(python: Path) -> list[Path]:
    result = process.run([python, "-I", "-c", _ASK], timeout=_ASK_SECONDS)
    try:
        return [Path(text) for text in json.loads(result.last_line)] if result.ok else []
    except ValueError:
        return []


def torch_lib_dir(environment: Path) -> Path | None:
    """Return the folder with torch's libraries in an environment, None when it has no torch."""
    return _torch_in(site_packages(environment))


def _torch_in(sites: Sequence[Path]) -> Path | None:
    return next((site / "torch" / "lib" for site in sites if (site / "torch" / "lib").is_dir()), None)


def find_installed(environment: Path, package: str) -> Installed:
    """Return the distribution ``package`` of an environment. Raise `UsageError` when it is not installed there."""
    from importlib.metadata import PathDistribution

    sites = site_packages(environment)
    wanted = re.sub(r"[-_.]+", "-", package).lower()
    for info in (path for site in sites for path in sorted(site.glob("*.dist-info"))):
        if re.sub(r"[-_.]+", "-", info.name.rpartition(".")[0].partition("-")[0]).lower() == wanted:
            found = PathDistribution(info)
            files = tuple((str(file), info.parent / file) for file in found.files or ())
            # a .dist-info without METADATA, which an install that was cut off leaves, has no version
            return Installed(
                wanted, found.version or "", files, _torch_in(sites), ", ".join(found.metadata.get_all("Summary") or [])
            )
    raise UsageError(
        f"{package} is not installed in {environment}",
        hints=["name another distribution with --package", f"`provision install --python {environment}` installs flash-attn"],
        code="not-installed",
    )
