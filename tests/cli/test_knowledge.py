from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from provisioner.cli.app import _run
from provisioner.knowledge import release_lists, wheel_index
from tests.knowledge.release_server import ReleaseServer, asset, release, serve

OFFICIAL, COMMUNITY = (publisher.source for publisher in release_lists.PUBLISHERS)
NEW = "flash_attn-2.9.0+cu13torch2.14cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
THEIRS = "flash_attn-2.8.3+cu130torch2.14-cp312-cp312-manylinux_2_28_x86_64.whl"


@pytest.fixture
def server() -> Iterator[ReleaseServer]:
    wheel_index.load.cache_clear()
    with serve() as running:
        running.repositories[OFFICIAL] = [release("v2.9.0", asset(OFFICIAL, "v2.9.0", NEW, "new"))]
        running.repositories[COMMUNITY] = [release("v1.0.0", asset(COMMUNITY, "v1.0.0", THEIRS))]
        yield running
    wheel_index.load.cache_clear()


def document(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_show_lists_each_table_with_its_source_and_day(capsys: pytest.CaptureFixture[str]) -> None:
    wheel_index.load.cache_clear()
    assert _run(["knowledge", "show", "--json"]) == 0
    shown = document(capsys)
    assert {"gpus", "torch_builds", "xformers"} <= {table["name"] for table in shown["tables"]}
    assert shown["wheel_index"]["origin"] == "shipped"
    assert shown["wheel_index"]["date"] == wheel_index.shipped().date


def test_show_prints_the_rows_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["knowledge", "show", "xformers"]) == 0
    assert "flash_attn_max=2.8.2" in capsys.readouterr().out
    assert _run(["knowledge", "show", "archs", "--json"]) == 0
    assert all(row["source"] and row["date"] for row in document(capsys)["rows"])


def test_an_unknown_table_is_a_usage_error_that_names_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["knowledge", "show", "gpu"]) == 2
    assert "gpus" in capsys.readouterr().err


@pytest.mark.integration
def test_update_prints_the_difference(server: ReleaseServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["knowledge", "update", "--api", server.url]) == 0
    text = capsys.readouterr().out
    assert f"+ v2.9.0/{NEW}" in text
    assert "gone" in text
    assert _run(["knowledge", "update", "--api", server.url]) == 0
    assert text.count("nothing has changed") == 0
    assert capsys.readouterr().out.count("nothing has changed") == 2
    assert _run(["knowledge", "show", "--json"]) == 0
    assert document(capsys)["wheel_index"]["origin"] == "updated"


@pytest.mark.integration
def test_update_as_json_is_one_document(server: ReleaseServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["knowledge", "update", "--api", server.url, "--official-only", "--json"]) == 0
    (difference,) = document(capsys)["update"]["differences"]
    assert (difference["source"], difference["added"]) == (OFFICIAL, [f"v2.9.0/{NEW}"])


@pytest.mark.integration
def test_update_leaves_with_4_when_nothing_answers(server: ReleaseServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.repositories.clear()
    assert _run(["knowledge", "update", "--api", server.url]) == 4
    assert wheel_index.shipped().date in capsys.readouterr().err
    assert _run(["knowledge", "update", "--api", server.url, "--offline"]) == 4


def test_what_is_no_address_of_an_api_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(["knowledge", "update", "--api", "foo"]) == 2
    assert "error[bad-url]" in capsys.readouterr().err
