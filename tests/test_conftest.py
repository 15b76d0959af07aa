"""A unit test cannot reach outside: what every other test relies on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner import paths, process

REACHING: dict[str, Callable[[], object]] = {
    "a program": lambda: subprocess.run([sys.executable, "-c", ""]),
    "a program through our one place": lambda: process.run([sys.executable, "-c", ""], timeout=5),
    "a shell": lambda: os.system("true"),  # noqa: S605 - refused
    "a fork": lambda: os.fork(),
    "a connection": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "a datagram": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"", ("127.0.0.1", 9)),
    "a name": lambda: socket.getaddrinfo("localhost", 80),
}


@pytest.mark.parametrize("reach", REACHING.values(), ids=REACHING)
def test_a_unit_test_reaches_nothing_outside(reach: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="reached outside"):
        reach()


@pytest.mark.subprocess
def test_a_test_that_says_so_runs_programs() -> None:
    assert process.run([sys.executable, "-c", "print(1)"], timeout=30).out == "1\n"


def test_the_users_settings_and_places_are_not_seen() -> None:
    assert list(Path.home().iterdir()) == []
    assert not any(name.startswith(("PIP_", "UV_", "CONDA")) for name in os.environ if name != "PIP_CONFIG_FILE")
    assert Path.home() not in paths.data_dir().parents
    assert "pytest" in str(paths.cache_dir())
