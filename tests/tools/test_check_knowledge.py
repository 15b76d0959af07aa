from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.network
def test_every_source_distribution_of_flash_attn_is_still_the_one_in_the_table(repository: Path) -> None:
    argv = [sys.executable, str(repository / "tools" / "check_knowledge.py")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=repository, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every hash agrees" in done.stdout
