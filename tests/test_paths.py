"""Where things lie: the XDG directories, moved by environment variables."""

from __future__ import annotations

import sys
from pathlib import Path

import platformdirs
import pytest

from provisioner import paths


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere platformdirs itself is asked")
@pytest.mark.parametrize("chosen", [None, "", "/srv/user"], ids=["unset", "empty", "chosen"])
def test_data_and_cache_lie_where_platformdirs_has_them(chosen: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PROVISION_DATA_DIR", "PROVISION_CACHE_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
        if chosen is not None and variable.startswith("XDG"):
            monkeypatch.setenv(variable, chosen)
    assert paths.data_dir() == Path(platformdirs.user_data_dir("provision", appauthor=False))
    assert paths.cache_dir() == Path(platformdirs.user_cache_dir("provision", appauthor=False))
    assert (paths.cache_dir().parent == Path("/srv/user")) == (chosen == "/srv/user")
