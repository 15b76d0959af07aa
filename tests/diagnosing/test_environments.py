"""Broken environments, built for real: each fault is found under its own code, and repaired where that can be done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.codec import to_builtins
from provisioner.diagnosing.environments import diagnose
from provisioner.diagnosing.findings import Finding
from provisioner.diagnosing.fixing import apply, steps
from provisioner.diagnosing.inventory import Disk, Inventory, script, take
from provisioner.diagnosing.reports import diagnose_report
from provisioner.machine.facts import Machine
from tests.conftest import Mount
from tests.diagnosing.broken import install, make_venv, make_wheel, site_packages, uninstall

pytestmark = pytest.mark.subprocess


def examine(python: Path, *, seconds: float = 20.0) -> tuple[Inventory, tuple[Finding, ...]]:
    inventory = take(python, import_seconds=seconds)
    return inventory, diagnose(Machine(), inventory)


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.code for finding in findings}


def repaired(python: Path, findings: tuple[Finding, ...]) -> set[str]:
    """Apply every automatic repair and return the codes that are still found."""
    for step in steps(findings):
        result = apply(step)
        assert result.ok, (step, result.err)
    return codes(examine(python)[1])


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One environment without pip, as uv makes them, for the tests that leave it as they found it."""
    return make_venv(tmp_path_factory.mktemp("envs") / "plain", with_pip=False)


def test_a_healthy_environment_has_no_findings(python: Path) -> None:
    inventory, findings = examine(python)
    assert inventory.python.kind == "venv"
    assert codes(findings) == set()


def test_a_kernel_less_flash_attn_is_found_and_removed(python: Path, tmp_path: Path) -> None:
    install(python, make_wheel(tmp_path, "flash-attn", "2.8.3", {"flash_attn/__init__.py": "__version__ = '2.8.3'\n"}))
    _, findings = examine(python)
    assert next(finding.code for finding in findings if finding.primary) == "flash-attn-no-kernels"
    assert "flash-attn-no-kernels" not in repaired(python, findings)
    assert examine(python)[0].version("flash-attn") is None


def test_flash_attn_outside_the_range_of_xformers_is_found_and_removed(python: Path, tmp_path: Path) -> None:
    kernels: dict[str, str | bytes] = {
        "flash_attn/__init__.py": "",
        "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so": b"\x7fELF",
    }
    install(
        python,
        make_wheel(tmp_path, "flash-attn", "2.8.3", kernels),
        make_wheel(tmp_path, "xformers", "0.0.32.post2", {"xformers/__init__.py": ""}),
    )
    _, findings = examine(python)
    assert "xformers-flash-attn-range" in codes(findings)
    assert "xformers-flash-attn-range" not in repaired(python, findings)
    uninstall(python, "xformers")


def test_torch_above_the_cap_of_unsloth_is_found_and_replaced(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = ("torch<2.15.0,>=2.4.0", "triton>=3.0.0 ; sys_platform == 'linux'")
    body: dict[str, str | bytes] = {"torch/__init__.py": ""}
    install(
        python,
        make_wheel(tmp_path, "unsloth", "2026.10.9", {"unsloth/__init__.py": ""}, requires=pins),
        make_wheel(tmp_path, "torch", "2.16.0", body),
    )
    make_wheel(tmp_path / "index", "torch", "2.14.99", body)
    _, findings = examine(python)
    found = next(finding for finding in findings if finding.code == "unsloth-pin-violated")
    assert "2.16.0" in found.title
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "index"))
    assert "unsloth-pin-violated" not in repaired(python, findings)
    assert examine(python)[0].version("torch") == "2.14.99"
    uninstall(python, "torch", "unsloth")


def test_two_records_of_one_package_are_found_and_the_stale_one_is_taken_away(python: Path, tmp_path: Path) -> None:
    install(python, make_wheel(tmp_path, "transformers", "5.1.0", {"transformers/__init__.py": ""}))
    stale = site_packages(python) / "transformers-4.50.0.dist-info"
    stale.mkdir()
    (stale / "METADATA").write_text("Metadata-Version: 2.1\nName: transformers\nVersion: 4.50.0\n")
    inventory, findings = examine(python)
    assert len(inventory.packages["transformers"]) == 2
    assert "duplicate-package" in codes(findings)
    assert "duplicate-package" not in repaired(python, findings)
    assert examine(python)[0].version("transformers") == "5.1.0"
    uninstall(python, "transformers")


def test_an_import_that_never_returns_is_stopped_and_its_stack_is_shown(python: Path, tmp_path: Path) -> None:
    hanging = "import threading\n\ndef wait_for_a_peer():\n    threading.Event().wait()\n\nwait_for_a_peer()\n"
    install(python, make_wheel(tmp_path, "bitsandbytes", "0.50.2", {"bitsandbytes/__init__.py": hanging}))
    started = time.monotonic()
    inventory, findings = examine(python, seconds=3)
    assert time.monotonic() - started < 30
    assert inventory.imports["bitsandbytes"].outcome == "hang"
    found = next(finding for finding in findings if finding.code == "import-hangs")
    assert "wait_for_a_peer" in inventory.imports["bitsandbytes"].stack
    assert any("bitsandbytes/__init__.py" in quote for quote in found.evidence), found.evidence
    uninstall(python, "bitsandbytes")


def test_the_children_of_a_stopped_import_are_gone(python: Path, tmp_path: Path) -> None:
    marker = "314159.26"
    body = f"import subprocess\nsubprocess.run(['sleep', '{marker}'])\n"
    install(python, make_wheel(tmp_path, "triton", "3.7.1", {"triton/__init__.py": body}))
    _, findings = examine(python, seconds=2)
    found = next(finding for finding in findings if finding.code == "import-hangs")
    assert f"another program: sleep {marker}" in found.title
    assert any("sleep" in quote for quote in found.evidence), found.evidence
    alive = [path for path in Path("/proc").glob("[0-9]*/cmdline") if marker in path.read_text(errors="replace")]
    assert not alive
    uninstall(python, "triton")


def test_the_lock_of_a_dead_build_is_found_and_deleted(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "py311_cu126" / "fused" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    _, findings = examine(python)
    assert next(finding.code for finding in findings if finding.primary) == "stale-build-lock"
    assert "stale-build-lock" not in repaired(python, findings)
    assert not lock.exists()


def test_spaces_and_chinese_letters_in_the_path_are_found(tmp_path: Path) -> None:
    assert "path-with-spaces" in codes(examine(make_venv(tmp_path / "my envs" / "unsloth", with_pip=False))[1])
    assert "path-not-ascii" in codes(examine(make_venv(tmp_path / "环境 一" / "unsloth", with_pip=False))[1])


def test_a_name_that_is_easily_mistaken_for_another_is_found(tmp_path: Path) -> None:
    make_venv(tmp_path / "unsloth-dev", with_pip=False)
    make_venv(tmp_path / "somethingelse", with_pip=False)
    _, findings = examine(make_venv(tmp_path / "unsloth_env_v2", with_pip=False))
    found = next(finding for finding in findings if finding.code == "environment-name-conflict")
    assert "unsloth-dev" in found.title
    assert "somethingelse" not in found.title


def test_a_user_site_that_leaks_into_the_environment_is_found(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(tmp_path, "trl", "1.15.0", {"trl/__init__.py": ""})
    install(python, tmp_path / "trl-1.15.0-py3-none-any.whl")
    elsewhere = tmp_path / "elsewhere" / "trl-0.9.6.dist-info"
    elsewhere.mkdir(parents=True)
    (elsewhere / "METADATA").write_text("Metadata-Version: 2.1\nName: trl\nVersion: 0.9.6\n")
    monkeypatch.setenv("PYTHONPATH", str(elsewhere.parent))
    _, findings = examine(python)
    assert "shadowed-package" in codes(findings)
    uninstall(python, "trl")


def test_a_full_disk_is_the_cause(python: Path) -> None:
    inventory, _ = examine(python)
    full = replace(inventory, disks={"tmp": Disk("/tmp", 3, 4096)})
    findings = diagnose(Machine(), full)
    assert next(finding.code for finding in findings if finding.primary) == "disk-or-tmp-full"


def test_a_really_full_disk_is_found_and_emptied_of_its_cache(
    mounted: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python, small_disk = make_venv(tmp_path / "withpip"), mounted("size=600m")
    cached = small_disk / "pip" / "http" / "0" / "body"
    cached.parent.mkdir(parents=True)
    with cached.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200 * 2**20)
    monkeypatch.setenv("XDG_CACHE_HOME", str(small_disk))
    _, findings = examine(python)
    assert next(finding.code for finding in findings if finding.primary) == "disk-or-tmp-full"
    assert "disk-or-tmp-full" not in repaired(python, findings)
    assert not cached.exists()


def test_an_import_that_hangs_on_the_lock_of_a_dead_build_is_repaired(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "extensions" / "py311_cpu" / "fused" / "lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    body = f"import os, time\nwhile os.path.exists({str(lock)!r}):\n    time.sleep(0.1)\n"
    install(python, make_wheel(tmp_path, "bitsandbytes", "0.50.2", {"bitsandbytes/__init__.py": body}))
    _, findings = examine(python, seconds=4)
    assert {"import-hangs", "stale-build-lock"} <= codes(findings)
    assert not {"import-hangs", "stale-build-lock"} & repaired(python, findings)
    uninstall(python, "bitsandbytes")


def test_what_the_emitted_script_prints_is_read_as_a_report(python: Path, tmp_path: Path) -> None:
    path = tmp_path / "unsloth_diagnose.py"
    path.write_text(script(), encoding="utf-8")
    assert path.stat().st_size <= 60 * 1024
    install(python, make_wheel(tmp_path, "flash-attn", "2.8.3", {"flash_attn/__init__.py": ""}))
    started = time.monotonic()
    printed = subprocess.run([python, path], check=True, capture_output=True, text=True).stdout
    assert time.monotonic() - started <= 15
    machine, findings = diagnose_report(printed)
    assert machine.software.flash_attn == "2.8.3"
    assert "flash-attn-no-kernels" in codes(findings)
    uninstall(python, "flash-attn")


def test_doctor_prints_the_documented_document_and_exits_1(python: Path, tmp_path: Path) -> None:
    install(python, make_wheel(tmp_path, "flash-attn", "2.8.3", {"flash_attn/__init__.py": ""}))
    command = [sys.executable, "-m", "provisioner", "doctor", "--python", str(python)]
    shown = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert shown.returncode == 1, shown.stderr
    document = json.loads(shown.stdout)
    assert document["schema"] == 1
    assert document["plan"] is None
    assert [finding["code"] for finding in document["findings"] if finding["primary"]] == ["flash-attn-no-kernels"]
    dry = subprocess.run([*command, "--fix", "--dry-run"], capture_output=True, text=True, check=False)
    assert "pip uninstall" in dry.stdout
    fixed = subprocess.run([*command, "--fix", "--yes"], capture_output=True, text=True, check=False)
    assert fixed.returncode == 0, fixed.stdout + fixed.stderr


def test_an_inventory_is_plain_data(python: Path) -> None:
    inventory, _ = examine(python)
    assert to_builtins(inventory)["python"]["kind"] == "venv"


def test_an_environment_with_pip_is_repaired_by_its_own_pip(tmp_path: Path) -> None:
    python = make_venv(tmp_path / "withpip")
    install(python, make_wheel(tmp_path, "flash-attn", "2.8.3", {"flash_attn/__init__.py": ""}))
    _, findings = examine(python)
    assert [step.command.split()[1:3] for step in steps(findings)] == [["-m", "pip"]]
    assert "flash-attn-no-kernels" not in repaired(python, findings)
