from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conda_channel import PLATFORM, add_package, make_channel
from tests.environments.bundles import bundle_here
from tests.servers import serve

pytestmark = pytest.mark.integration

INSTALL = """
import os, sys
from pathlib import Path
from provisioner.environments import conda_backend
from provisioner.errors import ProvisionError
from provisioner.locking.conda_part import Virtual, solve_live
channel, prefix, platform, *specs = sys.argv[1:]
code = 0
try:
    solution = solve_live(specs, channel.split(), platform=platform, virtual=Virtual(None, "2.31", archspec="x86_64"))
    if pause := os.environ.get("SWAP"):
        new, old = pause.split("|")
        Path(old).write_bytes(Path(new).read_bytes())
    conda_backend.install(Path(prefix), solution.packages, specs)
except ProvisionError as error:
    print(error.to_dict())
    code = error.exit_code
sys.stdout.flush(); os._exit(code)
"""


def install(channel: str, prefix: Path, *specs: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Solve and install in a child process: py-rattler may crash the interpreter that loaded it when that ends."""
    import os

    words = [sys.executable, "-c", INSTALL, channel, str(prefix), PLATFORM, *specs]
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env={**os.environ, **(env or {})})


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel with this CPython, pip and ninja, and a noarch Python package."""
    root = make_channel(tmp_path_factory.mktemp("channel"))
    files = {"site-packages/toy.py": (b"x = 1\n", 0o644)}
    add_package(root, "toy", "1.0", files, depends=["python"], subdir="noarch", noarch="python")
    return root


def test_a_real_python_from_a_channel_is_installed_and_runs_from_its_prefix(channel: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    with serve(channel) as server:
        run = install(server.url, prefix, "python", "pip", "ninja", "toy")
    assert run.returncode == 0, run.stdout + run.stderr
    code = "import sys, ssl, ctypes, toy; print(sys.prefix, toy.__file__)"
    python = subprocess.run([prefix / "bin/python", "-c", code], capture_output=True, text=True, timeout=60)
    assert python.returncode == 0, python.stderr
    assert python.stdout.split()[0] == str(prefix)
    assert python.stdout.split()[1].startswith(str(prefix))
    assert subprocess.run([prefix / "bin/ninja", "--version"], capture_output=True, timeout=60).returncode == 0
    assert len(list((prefix / "conda-meta").glob("*.json"))) == 4


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_a_package_swapped_after_locking_is_refused_and_not_installed(tmp_path: Path, scheme: str) -> None:
    good = add_package(tmp_path / "channel", "toy", "1.0", {"bin/toy": (b"good", 0o755)})
    evil = add_package(tmp_path / "other", "toy", "1.0", {"bin/toy": (b"evil", 0o755)})
    prefix = tmp_path / "prefix"
    with serve(tmp_path / "channel") as server:
        place = server.url if scheme == "http" else (tmp_path / "channel").as_uri()
        run = install(place, prefix, "toy", env={"SWAP": f"{evil}|{good}"})
    assert run.returncode == 5, run.stdout + run.stderr
    assert "integrity" in run.stdout
    assert not (prefix / "bin/toy").exists()


FROM_BUNDLE = """
import os, sys
from pathlib import Path
from provisioner.environments import conda_backend
from provisioner.environments.bundle_opening import opened
from provisioner.errors import ProvisionError
bundle, prefix, *swap = sys.argv[1:]
code = 0
try:
    with opened(Path(bundle)) as found:
        if swap:
            Path(swap[1]).write_bytes(Path(swap[0]).read_bytes())
        conda_backend.install(Path(prefix), found.locked.lock.of("conda"))
except ProvisionError as error:
    print(error.to_dict())
    code = error.exit_code
sys.stdout.flush(); os._exit(code)
"""


def test_a_bundles_packages_are_installed_without_their_server_and_noted_under_the_locks_addresses(tmp_path: Path) -> None:
    bundle = bundle_here(tmp_path / "root", tmp_path / "bundle")
    prefix = tmp_path / "prefix"
    shutil.move(tmp_path / "root/channel", tmp_path / "gone")
    words = [sys.executable, "-c", FROM_BUNDLE, str(bundle), str(prefix)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert (prefix / "bin/tool").read_bytes() == b"tool"
    record = json.loads((prefix / "conda-meta/tool-1.0-0.json").read_text())
    assert record["url"] == f"{(tmp_path / 'root').as_uri()}/channel/{PLATFORM}/tool-1.0-0.conda"


@pytest.mark.slow
def test_a_conda_package_swapped_while_the_bundle_is_open_is_refused_by_the_installation(tmp_path: Path) -> None:
    bundle = bundle_here(tmp_path / "root", tmp_path / "bundle")
    evil = add_package(tmp_path / "other", "tool", "1.0", {"bin/tool": (b"evil", 0o755)})
    prefix = tmp_path / "prefix"
    place = next(bundle.glob("conda/*/tool-*.conda"))
    words = [sys.executable, "-c", FROM_BUNDLE, str(bundle), str(prefix), str(evil), str(place)]
    run = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert run.returncode == 5, run.stdout + run.stderr
    assert not (prefix / "bin/tool").exists()


def test_the_first_channel_that_has_a_package_serves_it_even_if_a_later_one_is_newer(tmp_path: Path) -> None:
    add_package(tmp_path / "first", "toy", "1.0", {"bin/toy": (b"old", 0o755)})
    add_package(tmp_path / "second", "toy", "2.0", {"bin/toy": (b"new", 0o755)})
    add_package(tmp_path / "second", "other", "1.0", {"bin/other": (b"other", 0o755)})
    prefix = tmp_path / "prefix"
    with serve(tmp_path) as server:
        run = install(f"{server.url}/first {server.url}/second", prefix, "toy", "other")
    assert run.returncode == 0, run.stdout + run.stderr
    assert (prefix / "bin/toy").read_bytes() == b"old"
    assert (prefix / "bin/other").exists()


def test_a_channel_behind_a_password_is_read_with_the_one_in_netrc(tmp_path: Path) -> None:
    add_package(tmp_path / "channel", "toy", "1.0", {"bin/toy": (b"mine", 0o755)})
    netrc = tmp_path / "netrc"
    with serve(tmp_path / "channel") as server:
        server.password = "secret"
        assert install(server.url, tmp_path / "refused", "toy").returncode == 4
        netrc.write_text("machine 127.0.0.1 login me password secret\n")
        run = install(server.url, tmp_path / "prefix", "toy", env={"NETRC": str(netrc)})
    assert run.returncode == 0, run.stdout + run.stderr
    assert (tmp_path / "prefix/bin/toy").read_bytes() == b"mine"


def test_a_password_in_a_channels_url_is_refused_since_it_would_stand_in_the_lock() -> None:
    run = install("https://me:secret@conda.example/forge", Path("/nonexistent"), "toy")
    assert run.returncode == 2
    assert "secret" not in run.stdout
    assert "netrc" in run.stdout
