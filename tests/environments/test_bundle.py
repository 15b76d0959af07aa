from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.environments.bundle import BundledFile, BundleManifest, is_archive, layout, needs, read_manifest_text
from provisioner.environments.locked import Locked
from provisioner.errors import IntegrityError, UsageError
from provisioner.locking.values import SOURCE, TOOLCHAIN, Lock, LockedPackage
from provisioner.planning.values import Route
from tests.environments.bundles import plan


def package(url: str, manager: str = "pip", sha256: str = "a" * 64, category: str = "main") -> LockedPackage:
    return LockedPackage("toy", "1.0", manager, "linux-64", url, sha256, category=category)


def test_files_lie_where_people_look_for_them() -> None:
    conda = package("https://conda.example/forge/noarch/toy-1.0-0.conda", "conda", "c" * 64)
    wheel = package("https://index.example/files/toy-1.0%2Bcu128-py3-none-any.whl")
    assert list(layout([wheel, conda])) == ["conda/noarch/toy-1.0-0.conda", "index/toy-1.0+cu128-py3-none-any.whl"]


def test_two_files_of_one_name_both_lie_in_the_bundle_and_equal_ones_once() -> None:
    first, second = package("https://a.example/toy.whl"), package("https://b.example/toy.whl", sha256="b" * 64)
    assert layout([first, second]) == {"index/bbbbbbbbbbbb/toy.whl": second, "index/toy.whl": first}
    assert len(layout([first, package("https://c.example/toy.whl")])) == 1


@pytest.mark.parametrize("url", ["https://a.example/..%2F..%2Fevil.whl", "https://a.example/..", "https://a.example/a%5Cb"])
def test_a_lock_cannot_make_us_write_outside_the_bundle(url: str) -> None:
    with pytest.raises(IntegrityError):
        layout([package(url)])


@pytest.mark.parametrize("path", ["../evil", "/etc/passwd", "a/../../b", "", "a\\b"])
def test_a_manifest_cannot_make_us_read_or_write_outside_the_bundle(path: str) -> None:
    manifest = BundleManifest("conda-lock.yml", "0" * 64, "linux-64", "venv", "3.12", (BundledFile(path, "", "0" * 64, 1),))
    from provisioner.codec import to_json

    with pytest.raises(IntegrityError):
        read_manifest_text(to_json(manifest).encode())
    with pytest.raises(IntegrityError):
        read_manifest_text(to_json(replace(manifest, lock=path, files=())).encode())


def test_archives_of_other_kinds_are_refused_with_the_name_that_works() -> None:
    assert is_archive(Path("a/b.tar"))
    assert not is_archive(Path("bundle-3.12"))
    for name in ("b.tar.zst", "b.tgz", "b.zip"):
        with pytest.raises(UsageError) as caught:
            is_archive(Path(name))
        assert caught.value.hints == ("-o b.tar",)


def test_a_bundle_says_what_the_target_must_have_itself() -> None:
    source = replace(plan("venv", Route.SOURCE), cuda="13.0")
    sdist = package("https://index.example/flash_attn-2.8.3.post2.tar.gz", category=SOURCE)
    said = " ".join(needs(Locked(Lock("linux-64", (sdist,)), source)))
    for word in ("driver", "535.54.03", "Python 3.12", "Python.h", "C++ compiler", "CUDA 13 toolkit"):
        assert word in said
    compiler = package("https://index.example/nvcc.whl", category=TOOLCHAIN)
    assert "toolkit" not in " ".join(needs(Locked(Lock("linux-64", (sdist, compiler)), source)))
    assert list(needs(Locked(Lock("linux-64", ()), replace(source, backend="conda")))) == ["an NVIDIA driver, 535.54.03 or newer"]


def test_a_venv_needs_no_conda_packages_and_a_conda_prefix_needs_both() -> None:
    files = (package("https://a.example/x/noarch/toy.conda", "conda"), package("https://a.example/toy.whl"))
    assert Locked(Lock("linux-64", files), plan("venv")).needed == files[1:]
    assert Locked(Lock("linux-64", files), plan("conda")).needed == files
