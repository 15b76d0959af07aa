"""``doctor --memory`` without a GPU: the prediction, the options, and a snapshot's file as a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from provisioner.cli.doctor import command
from provisioner.cli.doctor_memory import _optimizers
from provisioner.diagnosing.memory import devices
from provisioner.diagnosing.memory.training import OPTIMIZERS
from tests.diagnosing.memory.models import LLAMA_31_8B
from tests.diagnosing.memory.test_observed import GIB, snapshot


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_through_nvml", list)
    monkeypatch.setattr(devices, "_through_smi", list)


def test_the_optimizers_offered_are_those_with_a_size() -> None:
    assert set(_optimizers()) == set(OPTIMIZERS)


def test_a_run_is_predicted_sink_by_sink_with_the_remedy_of_each(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(LLAMA_31_8B)
    result = CliRunner().invoke(command, ["--model", str(tmp_path), "--batch", "2", "--length", "4096"])
    assert result.exit_code == 0, result.output
    assert "1.96  embeddings, head and norms (16-bit)" in result.output
    assert "7.44 to 9.00 expected at the peak" in result.output
    found = CliRunner().invoke(command, ["--model", str(tmp_path), "--json"])
    document = json.loads(found.stdout)
    assert {sink["code"] for sink in document["memory"]["prediction"]} >= {"weights", "logits", "cuda-context"}
    assert all(sink["remedy"] and sink["source"] for sink in document["memory"]["prediction"])


def test_the_file_of_a_memory_snapshot_can_be_given_as_a_report(tmp_path: Path) -> None:
    (tmp_path / "dump.pickle").write_bytes(snapshot(*[(2 * GIB, GIB + GIB // 2)] * 8))
    result = CliRunner().invoke(command, ["--report", str(tmp_path / "dump.pickle"), "--json"])
    document = json.loads(result.stdout)
    assert [finding["code"] for finding in document["findings"]] == ["memory-fragmented"]
    assert document["machine"] is not None


def test_a_foreign_pickle_as_a_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dump.pickle").write_bytes(b"\x80\x04cos\nsystem\n(S'true'\ntR.")
    result = CliRunner().invoke(command, ["--report", str(tmp_path / "dump.pickle")])
    assert result.exit_code != 0
    assert "no memory snapshot" in str(result.exception)
