"""`provision lock`: a lock in other tools' formats, and which moment a day means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from provisioner.cli.app import provision
from provisioner.cli.lock import _date
from provisioner.locking.conda_lock_file import write_lock
from tests.locking.test_export import LOCK

pytestmark = pytest.mark.integration


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    write_lock(LOCK, tmp_path / "conda-lock.yml")
    return tmp_path / "conda-lock.yml"


def converted(lock: Path, *words: str) -> Result:
    return CliRunner().invoke(provision, ["lock", "--from", str(lock), *words])


def test_what_a_format_lacks_is_said_when_it_is_written(lock: Path) -> None:
    run = converted(lock, "--format", "pylock", "--format", "cyclonedx")
    assert run.exit_code == 0, run.output
    assert "left out     of pylock: xformers 0.1, compiled; `provision create --lock` makes it" in run.output
    assert "left out" not in converted(lock, "--format", "cyclonedx").output


def test_the_formats_go_beside_the_file_that_is_named(lock: Path, tmp_path: Path) -> None:
    document = json.loads(converted(lock, "--format", "pylock", "-o", str(tmp_path / "o/x.yml"), "--json").stdout)
    assert document["files"] == [str(tmp_path / "o/pylock.linux-64.toml")]
    assert (tmp_path / "o/pylock.linux-64.toml").is_file()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", "2026-11-01T23:59:59+00:00"),
        ("2026-11-01T08:00", "2026-11-01T08:00:00+00:00"),
        ("2026-11-01T00:00:00+02:00", "2026-11-01T00:00:00+02:00"),
    ],
)
def test_a_day_means_its_end_and_a_time_itself(text: str, moment: str) -> None:
    found = _date(text)
    assert found is not None
    assert found.isoformat() == moment
    assert _date(moment) == found, "as an earlier lock states it"
