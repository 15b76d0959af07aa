from __future__ import annotations

import json
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioner import download, paths
from provisioner.environments import venv_backend
from provisioner.environments.bundle_opening import opened
from provisioner.environments.bundling import make_bundle, order
from provisioner.errors import IntegrityError, SourceUnreachable, UsageError
from provisioner.indexes import IndexSettings
from tests.distributions import make_wheel
from tests.environments.bundles import bundle_here, lock_of

pytestmark = pytest.mark.integration
WHEEL = "index/toy-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle as ``bundle`` and as ``bundle.tar``."""
    root = tmp_path_factory.mktemp("bundle")
    bundle_here(root / "root", root / "bundle")
    make_bundle(order(root / "root/conda-lock.yml", root / "bundle.tar"))
    return root


@pytest.fixture
def bundle(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made / "bundle", tmp_path / "bundle"))


@pytest.fixture
def archive(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "bundle.tar", tmp_path / "bundle.tar"))


@pytest.mark.parametrize("kind", ["bundle", "archive"])
def test_an_open_bundle_serves_the_locks_addresses_and_forbids_the_network(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)
    with opened(path) as open_bundle:
        assert open_bundle.locked.lock.metadata["provision-plan"]
        for package in open_bundle.locked.needed:
            assert download.mirrored(package.url).startswith(open_bundle.root.as_uri())
            download.check_file(Path(download.mirrored(package.url)[len("file://") :]), sha256=package.sha256)
        with pytest.raises(SourceUnreachable) as caught:
            download.get_answer("http://index.example/")
        assert caught.value.code == "offline"
    assert not download.offline.get()
    assert download.at_hand.get() is None
    assert path.exists()
    assert [place for place in (paths.cache_dir() / "bundles").glob("*") if place.is_dir()] == [], "unpacked files are gone"


def swap_byte(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def edit_manifest(bundle: Path, change: Callable[[dict[str, object]], None]) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_text(json.dumps(manifest))


def trust_another_wheel(bundle: Path) -> None:
    """Swap a wheel and write its new hash into the manifest, as somebody would who can write into the bundle."""
    (bundle / WHEEL).write_bytes(b"evil")

    def change(manifest: dict[str, object]) -> None:
        files = manifest["files"]
        assert isinstance(files, list)
        for file in files:
            if file["path"] == WHEEL:
                file |= {"sha256": download.file_sha256(bundle / WHEEL), "size": 4}

    edit_manifest(bundle, change)


TAMPERINGS: dict[str, Callable[[Path], object]] = {
    "a byte of a wheel changed": lambda bundle: swap_byte(bundle / WHEEL, 100),
    "a wheel cut off": lambda bundle: (bundle / WHEEL).write_bytes((bundle / WHEEL).read_bytes()[:-10]),
    "a wheel missing": lambda bundle: (bundle / WHEEL).unlink(),
    "a conda package changed": lambda bundle: swap_byte(next(bundle.glob("conda/*/tool-*.conda")), -5),
    "the lock changed": lambda bundle: (bundle / "conda-lock.yml").open("a").write("# evil\n"),
    "the lock missing": lambda bundle: (bundle / "conda-lock.yml").unlink(),
    "the manifest cut off": lambda bundle: (bundle / "bundle.json").write_bytes((bundle / "bundle.json").read_bytes()[:50]),
    "a file left out of the manifest": lambda bundle: edit_manifest(bundle, lambda manifest: manifest["files"].pop()),  # type: ignore[attr-defined]
    "a wheel changed and the manifest with it": trust_another_wheel,
}


@pytest.mark.parametrize("how", TAMPERINGS)
def test_a_folder_that_was_tampered_with_is_refused(bundle: Path, how: str) -> None:
    TAMPERINGS[how](bundle)
    with pytest.raises(IntegrityError), opened(bundle):
        raise AssertionError("it was opened")


@pytest.mark.parametrize("share", [0.0005, 0.2, 0.6, 0.95])
def test_an_archive_that_was_cut_off_is_refused_and_nothing_stays_unpacked(archive: Path, share: float) -> None:
    archive.write_bytes(archive.read_bytes()[: int(archive.stat().st_size * share)])
    with pytest.raises(IntegrityError), opened(archive):
        raise AssertionError("it was opened")
    assert [place for place in (paths.cache_dir() / "bundles").glob("*") if place.is_dir()] == []


def test_an_archive_with_a_changed_member_is_refused(archive: Path) -> None:
    with tarfile.open(archive) as bundle:
        place = bundle.getmember(WHEEL).offset_data + 100
    swap_byte(archive, place)
    with pytest.raises(IntegrityError, match="toy"), opened(archive):
        raise AssertionError("it was opened")


def test_a_link_in_an_archive_is_not_followed(archive: Path, tmp_path: Path) -> None:
    evil = tmp_path / "evil.tar"
    with tarfile.open(archive) as old, tarfile.open(evil, "w") as new:
        for member in old.getmembers():
            if member.name == WHEEL:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with pytest.raises(IntegrityError), opened(evil):
        raise AssertionError("it was opened")


def test_what_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError), opened(tmp_path / "nowhere"):
        pass
    with pytest.raises(UsageError, match=r"bundle\.json"), opened(tmp_path):
        pass
    (tmp_path / "text.tar").write_text("hello\n" * 1000)
    with pytest.raises(IntegrityError), opened(tmp_path / "text.tar"):
        pass


def test_a_lock_from_elsewhere_is_served_where_the_bundle_has_its_files_and_refused_where_not(made: Path, bundle: Path) -> None:
    lock = made / "root/conda-lock.yml"
    with opened(bundle, lock) as open_bundle:
        assert len(open_bundle.locked.needed) == 3
    make_wheel(made / "root/files", "more", "1.0")
    other = lock_of(made / "root", (made / "root").as_uri(), made / "other-lock.yml")
    (made / "root/files/more-1.0-py3-none-any.whl").unlink()
    with pytest.raises(SourceUnreachable, match="more"), opened(bundle, other):
        pass


def test_a_wheel_swapped_while_the_bundle_is_open_is_refused_by_the_installation(bundle: Path, tmp_path: Path) -> None:
    settings = IndexSettings()
    venv_backend.make_venv(tmp_path / "g", Path(sys.executable), settings)
    with opened(bundle) as open_bundle:
        make_wheel(bundle / "index", "toy", "1.0", files={"toy/__init__.py": "evil = True\n"})
        with pytest.raises(IntegrityError):
            venv_backend.install(tmp_path / "g/bin/python", open_bundle.locked.lock.of("pip"), settings)
    assert list(tmp_path.glob("g/lib/python*/site-packages/toy*")) == []
