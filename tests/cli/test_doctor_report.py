"""``doctor --report``: the file as consoles save it, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from provisioner.cli.doctor import command

REPORT = "torch.__version__  = 2.7.1+cu128\r\nC:\\x> pip install flash-attn\r\n磁盘空间不足。\r\n"


def document(arguments: list[str], given: bytes | None = None) -> dict[str, Any]:
    result = CliRunner().invoke(command, [*arguments, "--json", "--offline"], input=given)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gbk"])
@pytest.mark.parametrize("piped", [False, True], ids=["file", "stdin"])
def test_a_report_is_read_in_the_encoding_in_which_a_console_saved_it(tmp_path: Path, encoding: str, piped: bool) -> None:
    raw = REPORT.encode(encoding)
    (tmp_path / "report.txt").write_bytes(raw)
    found = document(["--report", "-"], raw) if piped else document(["--report", str(tmp_path / "report.txt")])
    assert found["machine"]["software"]["torch"] == "2.7.1+cu128"
    assert found["machine"]["platform"]["system"] == "windows"
    (cause,) = [finding for finding in found["findings"] if finding["primary"]]
    assert cause["code"] == "disk-or-tmp-full"
    assert cause["evidence"] == ["磁盘空间不足。"]


def test_a_report_that_is_no_text_states_nothing_and_blames_nothing(tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_bytes(bytes(range(256)) * 40)
    found = document(["--report", str(tmp_path / "report.txt")])
    assert found["findings"] == []
    assert found["machine"]["gpus"] == []
