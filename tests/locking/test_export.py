"""A lock in other tools' formats, read back by what reads these formats."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from provisioner.adapter.locked import ADAPTER
from provisioner.errors import IntegrityError
from provisioner.locking.export import FORMATS, exported
from provisioner.locking.values import SOURCE, TOOLCHAIN, Lock, LockedPackage

FORGE = "https://conda.example/forge"


def conda(name: str, version: str = "1.0", platform: str = "linux-64", **needs: str) -> LockedPackage:
    url = f"{FORGE}/{platform}/{name}-{version}-h1_0.conda"
    return LockedPackage(name, version, "conda", platform, url, "a" * 64, "b" * 32, build="h1_0", dependencies=needs)


def wheel(name: str, version: str = "1.0", category: str = "main", *needs: str) -> LockedPackage:
    url = f"https://index.example/{name.replace('-', '_')}-{version.replace('+', '%2B')}-cp312-cp312-linux_x86_64.whl"
    return LockedPackage(
        name, version, "pip", "linux-64", url, "c" * 64, category=category, dependencies=dict.fromkeys(needs, "*")
    )


SDIST = LockedPackage(
    "xformers", "0.1", "pip", "linux-64", "https://index.example/xformers-0.1.tar.gz", "d" * 64, category=SOURCE
)
LOCK = Lock(
    "linux-64",
    (
        conda("python", "3.12.7", libzlib=">=1.3.2,<2.0a0", tzdata=""),
        conda("libzlib", "1.3.2"),
        conda("tzdata", "2025b"),
        wheel("torch", "2.8.0+cu128", "main", "triton", "numpy"),
        wheel("triton", "3.4.0"),
        dataclasses.replace(wheel("flash-attn", "2.8.1+cu12torch2.8", "main", "torch"), version="2.8.1"),
        SDIST,
        wheel("nvidia-nvvm", "13.0.88", TOOLCHAIN),
    ),
    (FORGE,),
    {"provision-recipe": "ampere", "provision-cuda": "12.8", "provision-python": "3.12"},
)
ARM = Lock("linux-aarch64", (conda("python", "3.12.7", "linux-aarch64"),), (FORGE,))
HELD = {package.name for package in LOCK.packages} - {"xformers", "nvidia-nvvm"}

READ_PIXI = """
import json, os, sys
from rattler import LockFile
rows = {}
for name, environment in LockFile.from_path(sys.argv[1]).environments():
    for target, packages in environment.packages_by_platform().items():
        rows[f"{name} {target.subdir}"] = [
            [each.name, str(each.version), each.location, each.hashes.sha256.hex(), list(getattr(each, "package_record", each).depends)
             if hasattr(each, "package_record") else list(each.requires_dist)] for each in packages
        ]
print(json.dumps(rows))
sys.stdout.flush(); os._exit(0)
"""


def only(kind: str, *locks: Lock) -> str:
    (text,) = exported(FORMATS[kind], locks).values()
    return text


@pytest.mark.subprocess
def test_rattler_reads_every_platform_of_a_pixi_lock_with_its_hashes_and_dependencies(tmp_path: Path) -> None:
    path = tmp_path / "pixi.lock"
    path.write_text(only("pixi.lock", LOCK, ARM))
    assert yaml.safe_load(path.read_text())["version"] == 6, "the one that conda reads"
    run = subprocess.run([sys.executable, "-c", READ_PIXI, str(path)], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert set(rows) == {"default linux-64", "default linux-aarch64"}
    found = {name: (version, url, sha256, needs) for name, version, url, sha256, needs in rows["default linux-64"]}
    assert set(found) == HELD
    assert found["python"][3] == ["libzlib >=1.3.2,<2.0a0", "tzdata"]
    assert found["torch"][0] == "2.8.0+cu128"
    assert found["torch"][3] == ["numpy", "triton"]
    assert found["flash-attn"][2] == "c" * 64


@pytest.mark.subprocess
def test_our_own_reader_takes_a_pixi_lock_back(tmp_path: Path) -> None:
    from provisioner.cli.lock_files import read_any
    from provisioner.machine.facts import Machine, Platform

    (tmp_path / "pixi.lock").write_text(only("pixi.lock", LOCK, ARM))
    lock, made_by = read_any(tmp_path / "pixi.lock", Machine(platform=Platform(machine="x86_64")))
    assert made_by == "pixi"
    assert {(each.name, each.sha256, each.md5) for each in lock.packages} == {
        (each.name, each.sha256, each.md5) for each in LOCK.packages if each.name in HELD
    }


def test_a_bill_of_materials_is_valid_and_names_every_file_with_its_purl_and_hash() -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL

    text = only("cyclonedx", LOCK)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    rows = {row["name"]: row for row in document["components"]}
    assert set(rows) == {package.name for package in LOCK.packages}
    for row in rows.values():
        assert not PackageURL.validate_string(row["purl"], strict=True), row["purl"]
        assert {"alg": "SHA-256", "content": row["hashes"][-1]["content"]} in row["hashes"]
    assert rows["python"]["purl"] == "pkg:conda/python@3.12.7?build=h1_0&channel=forge&subdir=linux-64&type=conda"
    assert rows["flash-attn"]["version"] == "2.8.1+cu12torch2.8", "as its file says"
    assert rows["nvidia-nvvm"]["scope"] == "excluded", "the compiler is no part of the environment"
    requires = {row["ref"]: set(row.get("dependsOn", ())) for row in document["dependencies"]}
    torch = rows["torch"]["bom-ref"]
    assert requires[rows["flash-attn"]["bom-ref"]] == {torch}
    assert rows["triton"]["bom-ref"] in requires[torch]
    assert rows["flash-attn"]["bom-ref"] in requires["environment"]
    assert torch not in requires["environment"]


def test_the_same_lock_gives_the_same_bill_and_a_time_only_where_one_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    reordered = dataclasses.replace(LOCK, metadata=dict(reversed(LOCK.metadata.items())))
    assert only("cyclonedx", LOCK) == only("cyclonedx", LOCK) == only("cyclonedx", reordered)
    assert "timestamp" not in json.loads(only("cyclonedx", LOCK))["metadata"]
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1760000000")
    assert json.loads(only("cyclonedx", LOCK))["metadata"]["timestamp"] == "2025-10-09T08:53:20+00:00"


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_made_where_it_is_installed_is_named_in_the_formats_that_lack_it(kind: str) -> None:
    text = only(kind, LOCK)
    said = f"# left out: xformers 0.1, compiled from {SDIST.url}#sha256={SDIST.sha256}; `provision create --lock` makes it\n"
    assert text.startswith(said) == (kind != "cyclonedx")
    adapter = Lock("linux-64", LOCK.packages[:3], (FORGE,), {ADAPTER: '{"version":"2.8.4+adapter"}'})
    assert only(kind, adapter).startswith("# left out: flash-attn 2.8.4+adapter, the adapter") == (kind != "cyclonedx")
    assert "left out" not in only(kind, ARM)


@pytest.mark.parametrize("kind", FORMATS)
def test_what_has_no_hash_is_passed_on_in_no_format(kind: str) -> None:
    unhashed = dataclasses.replace(LOCK, packages=(*LOCK.packages, dataclasses.replace(conda("openssl"), sha256="")))
    with pytest.raises(IntegrityError, match="openssl"):
        exported(FORMATS[kind], [unhashed])


def test_a_lock_without_wheels_gives_an_environment_without_a_pip_section() -> None:
    assert yaml.safe_load(only("environment.yml", ARM)) == {
        "channels": [FORGE, "nodefaults"],
        "dependencies": ["python=3.12.7=h1_0"],
    }


def test_a_pylock_is_one_that_packaging_reads() -> None:
    from packaging.pylock import Pylock

    from provisioner.compat import tomllib

    lock = Pylock.from_dict(tomllib.loads(only("pylock", LOCK)))
    assert {str(package.name) for package in lock.packages} == {"torch", "triton", "flash-attn"}
    for package in lock.packages:
        assert package.wheels is not None
        assert package.wheels[0].hashes["sha256"] == "c" * 64
