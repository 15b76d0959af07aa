from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from provisioner.errors import UsageError
from provisioner.locking.conda_lock_file import read_lock, write_lock
from provisioner.locking.targets import Target, file_of, joined, lock_for, single, targets
from provisioner.locking.values import Lock, LockedPackage
from provisioner.machine.facts import Gpu, Machine, Platform


def package(version: str, platform: str = "linux-64") -> LockedPackage:
    url = f"https://index.example/torch-{version}-{platform}.whl"
    return LockedPackage("torch", version, "pip", platform, url, "a" * 64, dependencies={"numpy": "*"})


def lock(gpu_class: str, version: str = "2.9.1", platform: str = "linux-64") -> Lock:
    metadata = {"provision-gpu-classes": gpu_class, "provision-recipe": "ampere", "provision-plan": f"the plan of {gpu_class}"}
    return Lock(platform, (package(version, platform),), ("https://conda.example/forge",), metadata)


def machine(gpu: str, processor: str = "x86_64") -> Machine:
    return Machine(gpus=(Gpu(compute_capability=gpu),), platform=Platform(machine=processor))


def test_platforms_and_classes_that_share_their_packages_stand_in_one_file_and_come_out_as_they_went_in(tmp_path: Path) -> None:
    parts = [lock("sm_80"), lock("sm_90"), lock("sm_90", platform="linux-aarch64")]
    (whole,) = joined(parts[:2])
    assert targets(whole) == (Target("linux-64", ("sm_80",)), Target("linux-64", ("sm_90",)))
    write_lock(whole, tmp_path / "conda-lock.yml")
    read = read_lock(tmp_path / "conda-lock.yml")
    assert [single(read, target) for target in targets(read)] == parts[:2]
    (arm,) = joined([parts[1], parts[2]])
    write_lock(arm, tmp_path / "both-lock.yml")
    read = read_lock(tmp_path / "both-lock.yml")
    assert read.platforms == ("linux-64", "linux-aarch64")
    assert [single(read, target) for target in targets(read)] == parts[1:]


def test_classes_whose_packages_differ_get_a_file_each_under_a_name_that_micromamba_takes() -> None:
    both = joined([lock("sm_90"), lock("sm_75", "2.6.0")])
    assert [part.packages[0].version for part in both] == ["2.9.1", "2.6.0"]
    names = [file_of(Path("conda-lock.yml"), part, len(both)).name for part in both]
    assert names == ["sm_90.conda-lock.yml", "sm_75.conda-lock.yml"]


def test_one_file_for_one_class_keeps_its_name_and_its_facts() -> None:
    assert joined([lock("sm_90")]) == (lock("sm_90"),)
    assert file_of(Path("x.yml"), lock("sm_90"), 1) == Path("x.yml")


def test_a_machine_gets_the_part_that_is_for_it_or_is_told_what_the_lock_is_for() -> None:
    (whole,) = joined([lock("sm_80"), lock("sm_90"), lock("sm_90", platform="linux-aarch64")][:2])
    assert lock_for(whole, machine("9.0")).metadata["provision-plan"] == "the plan of sm_90"
    with pytest.raises(UsageError) as caught:
        lock_for(whole, machine("7.5"))
    assert "sm_75" in caught.value.what
    assert "linux-64+sm_80" in (caught.value.why or "")
    with pytest.raises(UsageError, match="linux-aarch64"):
        lock_for(whole, machine("9.0", "aarch64"))
    assert lock_for(lock("sm_80"), machine("7.5")) == lock("sm_80"), "a lock for one target says what it is itself"


def test_conda_lock_reads_every_platform_of_a_file_as_it_stands(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    (whole,) = joined([lock("sm_90"), lock("sm_90", platform="linux-aarch64")])
    path = tmp_path / "conda-lock.yml"
    write_lock(whole, path)
    content = parse_conda_lock_file(path)
    assert content.metadata.platforms == ["linux-64", "linux-aarch64"]
    assert [(row.platform, row.url) for row in content.package] == [(each.platform, each.url) for each in whole.packages]


def test_conda_lock_would_mix_up_two_versions_in_different_categories(tmp_path: Path) -> None:
    """The reason for a file per class; when this fails, one file may hold them."""
    from conda_lock.lockfile import parse_conda_lock_file

    rows = (package("2.9.1"), dataclasses.replace(package("2.6.0"), category="sm_75"))
    path = tmp_path / "conda-lock.yml"
    write_lock(Lock("linux-64", rows), path)
    (row,) = parse_conda_lock_file(path).package
    assert (row.version, sorted(row.categories)) == ("2.9.1", ["main", "sm_75"])
