from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from provisioner.environments import activation, venv_backend
from provisioner.errors import IntegrityError, NoRoute, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.locking.pypi_part import Target, resolve
from provisioner.machine.facts import Machine, PythonInstall
from tests.conftest import Mount
from tests.distributions import make_wheel
from tests.servers import serve, write_index

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_a_python_with_headers_is_preferred_and_then_the_newest_patch() -> None:
    pythons = (
        PythonInstall("/a", "3.11.9", headers=False),
        PythonInstall("/b", "3.11.2", headers=True),
        PythonInstall("/c", "3.11.10", headers=True),
        PythonInstall("/d", "3.12.1", headers=True),
    )
    assert venv_backend.choose_python(Machine(pythons=pythons), "3.11").path == "/c"
    with pytest.raises(NoRoute) as caught:
        venv_backend.choose_python(Machine(pythons=pythons), "3.13")
    assert caught.value.code == "python-unavailable"
    assert "3.12.1" in (caught.value.why or "")


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A folder with an index of two small packages, one with a console script."""
    root = tmp_path / "index"
    entry = "[console_scripts]\ntoy = toy:main\n"
    files = {"toy/__init__.py": "def main():\n    print('toy runs')\n", "toy-1.0.dist-info/entry_points.txt": entry}
    make_wheel(root / "files", "toy", "1.0", files=files, requires=["lib"])
    make_wheel(root / "files", "lib", "2.0")
    write_index(root)
    return root


@pytest.mark.integration
@pytest.mark.parametrize("folder", ["plain", "with space", "环境"])
def test_locked_packages_are_installed_and_run_whatever_the_path(tmp_path: Path, index: Path, folder: str) -> None:
    prefix = tmp_path / folder / "g"
    with serve(index) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")
        packages = resolve(["toy"], Target(HERE, glibc="2.31"), settings)
        venv_backend.make_venv(prefix, Path(sys.executable), settings)
        venv_backend.install(prefix / "bin/python", packages, settings)
    activation.write_activation_variables(prefix, {"TOY_MODE": "it's on"})
    assert subprocess.run([prefix / "bin/toy"], capture_output=True, text=True, timeout=60).stdout == "toy runs\n"
    shell = f'. "{prefix}/bin/activate"; python -c "import os, sys; print(sys.prefix, os.environ[\'TOY_MODE\'])"'
    run = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60)
    assert run.stdout == f"{prefix} it's on\n", run.stderr


@pytest.mark.integration
def test_a_wheel_swapped_after_locking_is_refused_and_nothing_of_it_installed(tmp_path: Path, index: Path) -> None:
    prefix = tmp_path / "g"
    with serve(index) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")
        packages = resolve(["toy"], Target(HERE, glibc="2.31"), settings)
        make_wheel(index / "files", "lib", "2.0", files={"lib/__init__.py": "evil = True\n"})
        venv_backend.make_venv(prefix, Path(sys.executable), settings)
        with pytest.raises(IntegrityError) as caught:
            venv_backend.install(prefix / "bin/python", packages, settings)
    assert caught.value.exit_code == 5
    assert list(prefix.glob("lib/python*/site-packages/lib*")) == []


@pytest.mark.integration
def test_a_server_that_went_away_is_exit_4(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with serve(index) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")
        packages = resolve(["toy"], Target(HERE, glibc="2.31"), settings)
    prefix = tmp_path / "g"
    venv_backend.make_venv(prefix, Path(sys.executable), settings)
    with pytest.raises(SourceUnreachable):
        venv_backend.install(prefix / "bin/python", packages, settings)


@pytest.mark.integration
def test_a_package_that_does_not_fit_onto_the_disk_is_not_one_that_cannot_be_fetched(
    mounted: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv calls it a failed download, whose reason is three causes below."""
    make_wheel(tmp_path / "files", "large", "1.0", files={"large/data": os.urandom(5 << 20)})
    write_index(tmp_path)
    prefix = tmp_path / "g"
    with serve(tmp_path) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")
        packages = resolve(["large"], Target(HERE, glibc="2.31"), settings)
        venv_backend.make_venv(prefix, Path(sys.executable), settings)
        monkeypatch.setenv("PROVISION_CACHE_DIR", str(mounted("size=2m")))
        with pytest.raises(NoRoute) as caught:
            venv_backend.install(prefix / "bin/python", packages, settings)
    assert caught.value.code == "disk-or-tmp-full"
    assert "PROVISION_CACHE_DIR" in caught.value.hints[1]
