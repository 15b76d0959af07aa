"""Packages that are not whole: interrupted installs, deleted files, records without files, files without records."""

from __future__ import annotations

import os
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

from provisioner.diagnosing.child.unsloth_diagnose import builders
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding
from provisioner.diagnosing.fixing import apply, steps
from provisioner.diagnosing.inventory import Inventory, find_inventory, script, take
from provisioner.machine.facts import Machine
from provisioner.machine.probe import probe
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages

pytestmark = pytest.mark.subprocess

PEFT: dict[str, str | bytes] = {"peft/__init__.py": "import peft.tuners\n", "peft/tuners.py": "", "peft/tests/test_it.py": ""}


def examine(python: Path) -> tuple[Inventory, dict[str, Finding]]:
    inventory = take(python, import_seconds=20)
    return inventory, {finding.code: finding for finding in diagnose(Machine(), inventory)}


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with peft, and an index that has it."""
    made = make_venv(tmp_path / "env", with_pip=False)
    install(made, make_wheel(tmp_path / "index", "peft", "0.21.2", PEFT))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    return made


def repaired(python: Path) -> dict[str, Finding]:
    for step in steps(tuple(examine(python)[1].values())):
        result = apply(step)
        assert result.ok, (step, result.err)
    return examine(python)[1]


def test_a_package_whose_files_were_deleted_is_installed_again(python: Path) -> None:
    assert "package-incomplete" not in examine(python)[1]
    (site_packages(python) / "peft" / "tuners.py").unlink()
    found = examine(python)[1]["package-incomplete"]
    assert found.primary
    assert "not there: peft/tuners.py" in found.evidence
    assert "package-incomplete" not in repaired(python)
    assert (site_packages(python) / "peft" / "tuners.py").exists()


def test_files_that_images_are_often_stripped_of_are_not_missed(python: Path) -> None:
    shutil.rmtree(site_packages(python) / "peft" / "tests")
    assert "package-incomplete" not in examine(python)[1]


def pythons() -> list[str]:
    """The interpreters of this machine that the emitted script is for: 3.8 and newer, one of each minor version."""
    found = {tuple(map(int, one.version.split(".")[:2])): one.path for one in probe().pythons if one.version.count(".") == 2}
    return [path for version, path in sorted(found.items()) if version >= (3, 8)]


@pytest.mark.parametrize("interpreter", pythons())
def test_the_emitted_script_sees_the_same_in_every_python(interpreter: str, tmp_path: Path) -> None:
    """From 3.12 on importlib.metadata leaves out the files that are not there."""
    (tmp_path / "unsloth_diagnose.py").write_text(script())
    with zipfile.ZipFile(make_wheel(tmp_path / "index", "peft", "0.21.2", PEFT)) as wheel:
        wheel.extractall(tmp_path / "site")
    (tmp_path / "site" / "peft" / "tuners.py").unlink()
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    ran = subprocess.run([interpreter, tmp_path / "unsloth_diagnose.py"], env=environ, capture_output=True, text=True, check=True)
    inventory = find_inventory(ran.stdout)
    assert inventory is not None
    assert inventory.packages["peft"][0].missing == ("peft/tuners.py",)
    assert inventory.packages["peft"][0].missing_count == 1


def test_what_an_interrupted_pip_left_is_put_in_order(python: Path) -> None:
    """As pip leaves it: the old copy set aside under another first letter, the new one half there and without record."""
    site = site_packages(python)
    (site / "peft-0.21.2.dist-info").rename(site / "~eft-0.21.2.dist-info")
    shutil.copytree(site / "peft", site / "~eft")
    (site / "peft" / "tuners.py").unlink()
    inventory, found = examine(python)
    assert "peft" not in inventory.versions
    primary = found["package-without-record"]
    assert primary.primary
    assert "interrupted-install" in primary.explains
    assert primary.fix is not None
    assert "peft==0.21.2" in (primary.fix.command or "")
    assert not {"package-without-record", "interrupted-install"} & set(repaired(python))
    assert examine(python)[0].versions["peft"] == "0.21.2"
    kept = python.parent.parent / "provision-doctor-removed"
    assert {path.name for path in kept.iterdir()} == {"~eft", "~eft-0.21.2.dist-info"}


def test_of_two_records_the_one_whose_files_are_there_stays_though_it_is_the_older(python: Path, tmp_path: Path) -> None:
    """A downgrade that was interrupted: the record of the newer version is the stale one."""
    site = site_packages(python)
    newer = make_wheel(tmp_path, "peft", "0.22.0", {**PEFT, "peft/__init__.py": "import peft.tuners\nNEW = 1\n"})
    other = make_venv(tmp_path / "other", with_pip=False)
    install(other, newer)
    shutil.copytree(site_packages(other) / "peft-0.22.0.dist-info", site / "peft-0.22.0.dist-info")
    fix = examine(python)[1]["duplicate-package"].fix
    assert fix is not None
    assert str(site / "peft-0.22.0.dist-info") in (fix.command or "")
    assert "duplicate-package" not in repaired(python)
    assert examine(python)[0].versions["peft"] == "0.21.2"


def test_packages_from_pythonpath_are_named_though_the_environment_has_none_of_its_own(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = make_venv(tmp_path / "other", with_pip=False)
    install(other, make_wheel(tmp_path, "trl", "0.9.6", {"trl/__init__.py": ""}))
    assert "shadowed-package" not in examine(python)[1]
    monkeypatch.setenv("PYTHONPATH", str(site_packages(other)))
    found = examine(python)[1]["shadowed-package"]
    assert "trl 0.9.6 comes from" in found.title
    assert found.fix is not None
    assert found.fix.command == "unset PYTHONPATH"


def test_an_environment_that_shares_the_systems_packages_and_has_newer_ones_of_its_own_is_as_it_should_be(tmp_path: Path) -> None:
    venv.EnvBuilder(system_site_packages=True, symlinks=True).create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    shared = next(name for name, copies in take(python).packages.items() if not copies[0].location.startswith(str(tmp_path)))
    install(python, make_wheel(tmp_path, shared, "99.0", {f"{shared.replace('-', '_')}/__init__.py": ""}))
    inventory, found = examine(python)
    assert len(inventory.packages[shared]) > 1
    assert "shadowed-package" not in found


def test_conda_is_told_to_believe_in_a_version_that_pip_has_replaced(python: Path) -> None:
    records = python.parent.parent / "conda-meta"
    records.mkdir()
    (records / "peft-0.9.0-pyhd8ed1ab_0.json").write_text("{}")
    found = examine(python)[1]["pip-over-conda"]
    assert "peft: conda's record says 0.9.0, 0.21.2 is there (by uv)" in found.evidence
    (records / "peft-0.9.0-pyhd8ed1ab_0.json").rename(records / "peft-0.21.2-pyhd8ed1ab_0.json")
    assert "pip-over-conda" not in examine(python)[1]


def test_a_damaged_record_is_no_broken_interpreter(python: Path) -> None:
    (site_packages(python) / "peft-0.21.2.dist-info" / "RECORD").write_bytes(b"peft/\xff.py,,\n")
    inventory, found = examine(python)
    assert inventory.versions["peft"] == "0.21.2"
    assert "interpreter-broken" not in found


def test_a_package_under_the_name_of_another_distribution_has_its_record(python: Path, tmp_path: Path) -> None:
    """flash-attn-4 alone fills flash_attn/cute; what Python cached of a removed package holds no code."""
    install(python, make_wheel(tmp_path, "flash-attn-4", "4.0.0", {"flash_attn/cute/__init__.py": ""}))
    (site_packages(python) / "xformers" / "__pycache__").mkdir(parents=True)
    (site_packages(python) / "xformers" / "__pycache__" / "ops.cpython-311.pyc").touch()
    assert "package-without-record" not in examine(python)[1]
    (site_packages(python) / "xformers" / "ops.py").touch()
    found = examine(python)[1]["package-without-record"]
    assert found.fix is not None
    assert not found.fix.automatic, "which version it was is not known"


def test_a_debian_package_with_two_records_is_not_installed_twice(python: Path) -> None:
    info = site_packages(python) / "peft-0.21.2.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.21.2\n")
    assert "duplicate-package" not in examine(python)[1]


def test_a_torch_is_put_back_from_the_index_that_it_came_from(python: Path, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"torch/__init__.py": "", "torch/nn.py": ""}
    install(python, make_wheel(tmp_path, "torch", "2.8.0+cu126", files))
    (site_packages(python) / "torch" / "nn.py").unlink()
    fix = examine(python)[1]["package-incomplete"].fix
    assert fix is not None
    assert "--index-url https://download.pytorch.org/whl/cu126 torch==2.8.0+cu126" in (fix.command or "")


def test_a_lock_that_a_process_holds_open_is_not_stale(tmp_path: Path) -> None:
    """torch's FileBaton keeps the file open while it builds; the process may work elsewhere and name it nowhere."""
    (tmp_path / "lock").touch()
    assert builders(str(tmp_path)) == []
    with (tmp_path / "lock").open():
        assert builders(str(tmp_path)) == [os.getpid()]
