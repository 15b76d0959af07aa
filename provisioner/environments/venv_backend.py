"""The venv backend: an interpreter of this host, packages from the package index alone, installed by uv with hashes."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from provisioner import download, progress
from provisioner.errors import BuildFailed, IntegrityError, NoRoute, ProvisionError, SourceUnreachable, full_disk, says_full
from provisioner.indexes import IndexSettings
from provisioner.locking.values import LockedPackage
from provisioner.machine.facts import Machine, PythonInstall
from provisioner.uv import run_uv


def choose_python(machine: Machine, version: str) -> PythonInstall:
    """Return the interpreter of that minor version, with headers rather than without, the newest patch first.

    Raise `NoRoute` naming what is there. Headers matter beyond a build: Triton compiles against them at run time.
    """
    fitting = [python for python in machine.pythons if python.version.split(".")[:2] == version.split(".")[:2]]
    if not fitting:
        there = ", ".join(sorted({python.version for python in machine.pythons})) or "none"
        raise NoRoute(
            f"there is no Python {version} on this machine",
            why=f"the venv backend uses a Python of the host; found: {there}",
            hints=[
                "choose one of those: --python X.Y",
                "or lock for a backend that brings its own, in a bundle too: provision lock --backend conda",
            ],
            code="python-unavailable",
        )
    return max(fitting, key=lambda python: (python.headers, tuple(int(part) for part in re.findall(r"\d+", python.version)[:3])))


def make_venv(prefix: Path, python: Path, settings: IndexSettings) -> None:
    """Make an empty virtual environment in ``prefix`` (which may already hold our manifest folder)."""
    result = run_uv(["venv", "--allow-existing", "--python", python, "--no-config", prefix], settings=settings, timeout=120)
    if not result.ok:
        raise BuildFailed(
            f"cannot make a virtual environment with {python}",
            why=result.err.strip(),
            hints=["that Python may be damaged: use another one with --python X.Y", "or the other backend: --backend conda"],
            code="venv-failed",
        )


def install(
    python: Path, packages: Sequence[LockedPackage], settings: IndexSettings, *, label: str = "installing packages"
) -> None:
    """Install exactly these files beside ``python``, each checked against its sha256.

    Raise `IntegrityError` when a file is not what the lock says and `SourceUnreachable` when one cannot be fetched.
    """
    _install(["--python", str(python)], packages, settings, label)


def install_into(folder: Path, packages: Sequence[LockedPackage], settings: IndexSettings, *, label: str) -> None:
    """Install exactly these files into a plain folder, as into a site-packages; raises as `install` does."""
    _install(["--target", folder, "--python", sys.executable], packages, settings, label)


def _install(where: Sequence[str | Path], packages: Sequence[LockedPackage], settings: IndexSettings, label: str) -> None:
    if not packages:  # uv takes no pylock.toml without packages
        return
    with (
        tempfile.TemporaryDirectory(prefix="provision-install-") as folder,
        progress.task(label, total=len(packages), unit="packages") as task,
    ):
        listing = Path(folder, "pylock.toml")
        listing.write_text(pylock(packages))

        def follow(line: str) -> None:
            if match := re.match(r"\s*(?:Downloaded|Downloading) (\S+)", line):
                task.advance(0, detail=match[1])
            elif re.match(r"\s*\+ \S+==", line):
                task.advance()

        words: list[str | Path] = ["pip", "install", *where, "--no-deps", "-r", listing, *settings.options()]
        result = run_uv(words, settings=settings, on_line=follow)
    if not result.ok:
        raise _install_error(result.err.strip(), timed_out=result.timed_out)


def install_wheel(python: Path, wheel: Path, settings: IndexSettings) -> None:
    """Install one local wheel beside ``python`` without its dependencies (the lock has them), replacing another version."""
    options = ["--no-deps", "--no-index", "--reinstall"]
    words: list[str | Path] = ["pip", "install", "--python", python, *options, wheel]
    environ = {"UV_REQUIRE_HASHES": "false"}  # the file is here, and its hash was checked
    result = run_uv(words, settings=settings, timeout=600, environ=environ)
    if not result.ok:
        raise _install_error(result.err.strip(), timed_out=result.timed_out)


def pylock(packages: Sequence[LockedPackage]) -> str:
    """Return these packages as ``pylock.toml`` (PEP 751) with one hashed file each."""
    lines = ['lock-version = "1.0"', 'created-by = "provision"', ""]
    for package in packages:
        url = download.mirrored(package.url)
        place = f'path = "{_local_path(url)}"' if url.startswith("file:") else f'url = "{url}"'
        size = f", size = {package.size}" if package.size else ""
        kind = "wheels = [{entry}]" if package.filename.endswith(".whl") else "sdist = {entry}"
        entry = f'{{ name = "{package.filename}", {place}{size}, hashes = {{ sha256 = "{package.sha256}" }} }}'
        lines += ["[[packages]]", f'name = "{package.name}"', f'version = "{package.version}"', kind.format(entry=entry), ""]
    return "\n".join(lines)


def _local_path(url: str) -> str:
    from urllib.parse import unquote, urlsplit

    return unquote(urlsplit(url).path)


def _install_error(said: str, *, timed_out: bool) -> ProvisionError:
    if re.search(r"hash mismatch|hash.{0,20}does not match", said, re.I):
        return IntegrityError(
            "a package is not the one that was locked",
            why=said,
            hints=[
                "lock anew if you trust the index: provision create NAME --replace",
                "otherwise ask whoever runs the index or mirror",
            ],
        )
    if says_full(said):  # also where it calls that a failed download
        return full_disk(said)
    if timed_out or re.search(r"failed to (?:fetch|download)|dns error|error sending request|connection|timed? out", said, re.I):
        return SourceUnreachable(
            "a package cannot be fetched",
            why=said or "no progress within the time limit",
            hints=["run the same command again: what was fetched is kept"],
        )
    return BuildFailed(
        "uv could not install the packages",
        why=said,
        hints=["run the same command again, with -v to see more"],
        code="install-failed",
    )
