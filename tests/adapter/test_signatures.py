"""The adapter is called as flash-attn 2.8.3.post2 is: names, order and defaults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.adapter.sources import FOLDER
from provisioner.building.releases import find_release
from provisioner.building.sources import fetch_sdist, unpack
from tests.adapter.signatures import FUNCTIONS, signatures

GOLDEN = Path(__file__).parent / "golden" / "flash-attn-2.8.3.post2.json"
FILES = ("flash_attn_interface.py", "bert_padding.py", "layers/rotary.py", "ops/triton/rotary.py")


def test_every_function_takes_what_upstreams_takes() -> None:
    ours = signatures(*((FOLDER / name).read_text() for name in (*FILES, "_operators.py")))
    assert ours == json.loads(GOLDEN.read_text())
    assert set(ours) == set(FUNCTIONS)


@pytest.mark.slow
@pytest.mark.network
def test_the_golden_signatures_are_those_of_the_sdist(tmp_path: Path) -> None:
    root = unpack(fetch_sdist(find_release("2.8.3.post2")), tmp_path / "source")
    assert signatures(*((root / "flash_attn" / name).read_text() for name in FILES)) == json.loads(GOLDEN.read_text())
