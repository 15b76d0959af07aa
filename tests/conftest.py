"""What holds for every test: no real program, no socket and no user configuration unless the test says so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

SCRUBBED = ("PIP_", "UV_", "CONDA", "CUDA", "CXX", "PROVISION_", "NVCC_", "TORCH_", "FLASH_ATT", "XDG_")
REAL = ("subprocess", "integration", "slow", "network", "gpu")

settings.register_profile("suite", deadline=None)
settings.load_profile("suite")
"""A crowded machine is no counterexample: what must be fast is measured by tests of its own."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""A shell that runs the suite in the background has its programs ignore Ctrl-C, and they would hand that down to those that tests interrupt."""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Remove what the user's shell set, and put every directory that we write to under the test's own."""
    for name in list(os.environ):
        if name.startswith(SCRUBBED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    base = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PROVISION_DATA_DIR", str(base / "data"))
    monkeypatch.setenv("PROVISION_CACHE_DIR", str(base / "cache"))


@pytest.fixture(autouse=True)
def _no_outside_world(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Make programs and sockets raise in unit tests, and give them an empty home; the markers in `REAL` allow what is real."""
    if any(request.node.get_closest_marker(mark) for mark in REAL):
        return

    def refused(what: str) -> Callable[..., NoReturn]:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise AssertionError(f"a unit test reached outside: {what}")

        return refuse

    monkeypatch.setattr(subprocess.Popen, "__init__", refused("a program"))
    for name in ("system", "fork", "posix_spawn", "posix_spawnp", "execv", "execve"):
        monkeypatch.setattr(os, name, refused(f"os.{name}"))
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused(f"a socket's {name}"))
    monkeypatch.setattr(socket, "getaddrinfo", refused("a name server"))
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("user")))


@pytest.fixture
def repository() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parents[1]


Mount = Callable[[str], Path]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mount]:
    """Makes a file system in memory with the options given."""
    folders: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk{len(folders)}"
        folder.mkdir()
        done = os.getuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder], check=False)
        if not done or done.returncode:
            pytest.skip("a file system of one's own takes root")
        folders.append(folder)
        return folder

    yield mount
    for folder in folders:
        subprocess.run(["umount", folder], check=True)
