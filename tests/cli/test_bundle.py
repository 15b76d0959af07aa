from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from provisioner.cli.app import provision
from provisioner.errors import UsageError
from tests.environments.bundles import lock_of, write_files

pytestmark = pytest.mark.integration


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    write_files(tmp_path / "root")
    return lock_of(tmp_path / "root", (tmp_path / "root").as_uri(), tmp_path / "conda-lock.yml")


def bundle(*words: str | Path) -> Result:
    return CliRunner().invoke(provision, ["bundle", *map(str, words)])


def test_the_size_and_what_the_target_needs_are_said_before_anything_is_fetched(lock: Path, tmp_path: Path) -> None:
    said = bundle(lock, "-o", tmp_path / "dry", "--dry-run")
    assert said.exit_code == 0, said.output
    assert "2 files" in said.output
    assert "MiB to fetch" in said.output
    assert "a Python 3.12" in said.output
    assert "nothing was fetched" in said.output
    assert not (tmp_path / "dry").exists()


def test_the_document_holds_the_digest_that_the_text_shows(lock: Path, tmp_path: Path) -> None:
    shown = bundle(lock, "-o", tmp_path / "a.tar").output
    document = json.loads(bundle(lock, "-o", tmp_path / "b", "--json").stdout)
    assert document["bundle"]["digest"] in shown
    assert document["bundle"]["files"] == 2
    assert document["bundle"]["path"] == str(tmp_path / "b")
    assert "--bundle a.tar" in shown


def test_a_lock_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "conda-lock.yml").write_text("nonsense: [")
    assert isinstance(bundle(tmp_path / "conda-lock.yml", "-o", tmp_path / "b").exception, UsageError)
    assert isinstance(bundle(tmp_path / "nowhere.yml", "-o", tmp_path / "b").exception, UsageError)
