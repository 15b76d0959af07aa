from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.environments.foreign_lock import RECIPE, is_pixi
from provisioner.environments.locked import Locked, read_locked
from provisioner.errors import IntegrityError, ProvisionError, UsageError
from provisioner.locking.conda_lock_file import write_lock
from provisioner.locking.values import Lock, LockedPackage
from provisioner.machine.facts import Gpu, Machine, Platform
from provisioner.planning.values import Route

pytestmark = pytest.mark.subprocess

MACHINE = Machine(gpus=(Gpu("H100", "9.0", source="nvml"),), platform=Platform(machine="x86_64"))
CHANNEL = "https://conda.example/forge"
PYTHON = LockedPackage(
    "python", "3.12.7", "conda", "linux-64", f"{CHANNEL}/linux-64/python-3.12.7-h1_0.conda", "a" * 64, "b" * 32, build="h1_0"
)


def wheel(name: str, version: str, **changes: str) -> LockedPackage:
    filename = f"{name.replace('-', '_')}-{version.replace('+', '%2B')}-cp312-cp312-linux_x86_64.whl"
    made = LockedPackage(name, version, "pip", "linux-64", f"https://index.example/files/{filename}", "c" * 64)
    return replace(made, **changes)  # type: ignore[arg-type]


STACK = (PYTHON, wheel("torch", "2.8.0+cu128"), wheel("flash_attn", "2.8.1"), wheel("xformers", "0.0.32.post2"))


def conda_lock(path: Path, packages: Sequence[LockedPackage]) -> Path:
    """Write a ``conda-lock.yml`` as conda-lock does: its own models, without metadata of ours."""
    write_lock(Lock(packages[0].platform, tuple(packages), (CHANNEL,)), path / "conda-lock.yml")
    return path / "conda-lock.yml"


def pixi_lock(path: Path, packages: Sequence[LockedPackage], environment: str = "default") -> Path:
    """Write a ``pixi.lock`` by rattler, with the hashes of wheels as pixi writes them."""
    from rattler import BuildString, LockFile, PackageRecord, RepoDataRecord
    from rattler.lock import LockChannel, LockPlatform

    target = LockPlatform(packages[0].platform)
    lock = LockFile([target])
    lock.set_channels(environment, [LockChannel(CHANNEL)])
    for item in packages:
        if item.manager == "pip":
            lock.add_pypi_package(environment, target, item.name, item.version, item.url)
            continue
        sha256, md5 = bytes.fromhex(item.sha256) or None, bytes.fromhex(item.md5 or "") or None
        build = BuildString(item.build or "0")
        record = PackageRecord(item.name, item.version, build, 0, item.platform, depends=["libc"], sha256=sha256, md5=md5)
        lock.add_conda_package(environment, target, RepoDataRecord(record, item.filename, item.url, CHANNEL))
    lock.to_path(path / "pixi.lock")
    text = (path / "pixi.lock").read_text()
    for item in packages:
        if item.manager == "pip" and item.sha256:
            head = rf"(- pypi: {re.escape(item.url)}\n  name: \S+\n  version: \S+\n)"
            text, count = re.subn(head, rf"\1  sha256: {item.sha256}\n", text)
            assert count == 1, text
    (path / "pixi.lock").write_text(text)
    return path / "pixi.lock"


WRITERS = {"conda-lock": conda_lock, "pixi": pixi_lock}


def said(locked: Locked) -> list[tuple[str, str, str, str]]:
    return sorted((package.manager, package.name, package.url, package.sha256) for package in locked.lock.packages)


@pytest.mark.parametrize("tool", WRITERS)
def test_a_foreign_lock_is_taken_as_it_is_and_described(tmp_path: Path, tool: str) -> None:
    locked = read_locked(WRITERS[tool](tmp_path, STACK), MACHINE)
    normalised = [replace(package, name=package.name.replace("_", "-")) for package in STACK]
    assert said(locked) == said(replace(locked, lock=Lock("linux-64", tuple(normalised))))
    assert locked.made_by == tool
    plan = locked.plan
    assert (plan.recipe, plan.backend, plan.python, plan.torch, plan.cuda) == (RECIPE, "conda", "3.12", "2.8.0", "12.8")
    assert (plan.route, plan.xformers, plan.gpu_classes) == (Route.WHEEL, "0.0.32.post2", ("sm_90",))
    assert plan.flash_attn is not None
    assert (plan.flash_attn.version, plan.flash_attn.sha256) == ("2.8.1", "c" * 64)
    assert locked.lock.of("conda")[0].build == "h1_0"


@pytest.mark.parametrize("tool", WRITERS)
@pytest.mark.parametrize(
    ("packages", "kind", "said"),
    [
        ([PYTHON, wheel("torch", "2.8.0", sha256="")], IntegrityError, "no sha256 for torch"),
        ([replace(PYTHON, sha256="")], IntegrityError, "no sha256 for python"),
        ([PYTHON, wheel("mine", "1.0", url="./mine")], UsageError, "./mine"),
        ([PYTHON, wheel("mine", "1.0", url="git+https://git.example/mine.git")], UsageError, "git.example"),
        ([replace(PYTHON, platform="osx-arm64")], UsageError, "not locked for linux-64"),
        ([replace(PYTHON, name="perl")], UsageError, "no Python"),
        ([PYTHON, wheel("flash-attn", "2.8.1", url="https://index.example/flash_attn-2.8.1.tar.gz")], UsageError, "source"),
    ],
)
def test_what_cannot_be_carried_out_is_refused_with_the_reason(
    tmp_path: Path, tool: str, packages: list[LockedPackage], kind: type[ProvisionError], said: str
) -> None:
    path = WRITERS[tool](tmp_path, packages)
    with pytest.raises(kind) as caught:
        read_locked(path, MACHINE)
    assert said in caught.value.what
    assert caught.value.hints


def test_a_pixi_lock_without_a_default_environment_names_the_ones_it_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_locked(pixi_lock(tmp_path, [PYTHON], "gpu"), MACHINE)
    assert "gpu" in (caught.value.why or "")


def test_only_this_machines_platform_of_a_lock_for_several_is_installed(tmp_path: Path) -> None:
    other = replace(PYTHON, platform="osx-arm64", url=f"{CHANNEL}/osx-arm64/python-3.12.7-h1_0.conda")
    locked = read_locked(conda_lock(tmp_path, [PYTHON, other]), MACHINE)
    assert [package.url for package in locked.lock.packages] == [PYTHON.url]


def test_the_extra_categories_of_a_conda_lock_are_left_out_as_conda_lock_leaves_them_out(tmp_path: Path) -> None:
    extra = [wheel("pytest", "8.0", category="dev"), wheel("sphinx", "8.0", category="docs")]
    locked = read_locked(conda_lock(tmp_path, [PYTHON, *extra]), MACHINE)
    assert [package.name for package in locked.lock.of("pip")] == ["pytest"]


@pytest.mark.parametrize(
    ("packages", "cuda"),
    [
        ([wheel("torch", "2.13.0"), wheel("nvidia-cuda-runtime", "13.0.96")], "13.0"),
        ([wheel("torch", "2.8.0"), wheel("nvidia-cuda-runtime-cu12", "12.8.90")], "12.8"),
        ([wheel("torch", "2.8.0+cpu")], None),
        (
            [
                replace(
                    PYTHON,
                    name="pytorch",
                    version="2.9.1",
                    build=None,
                    url=f"{CHANNEL}/linux-64/pytorch-2.9.1-cuda129_py312_0.conda",
                )
            ],
            "12.9",
        ),
        ([], None),
    ],
)
def test_torchs_cuda_is_told_by_what_the_lock_holds(tmp_path: Path, packages: list[LockedPackage], cuda: str | None) -> None:
    assert read_locked(conda_lock(tmp_path, [PYTHON, *packages]), MACHINE).plan.cuda == cuda


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    assert not is_pixi("version: 1\nmetadata: {}\npackage: []\n")
    (tmp_path / "pixi.lock").write_text("version: 6\nenvironments: 3\n")
    with pytest.raises(UsageError):
        read_locked(tmp_path / "pixi.lock", MACHINE)
    with pytest.raises(UsageError):
        read_locked(tmp_path / "nowhere", MACHINE)
