"""Mirrors are used where files are fetched; what is written down keeps the canonical address."""

from __future__ import annotations

import pytest

from provisioner import download
from provisioner.knowledge.mirrors import mirrors

FILE = "/packages/" + "ab/cd/" + "e" * 60 + "/app-1.0-py3-none-any.whl"


def test_each_mirror_serves_what_it_has_and_says_what_it_lacks() -> None:
    assert {row.name for row in mirrors()} == {"tuna", "ustc", "bfsu", "aliyun"}
    for row in mirrors():
        assert row.conda is not None
        assert row.index is not None
        assert row.lacks
        places = (row.conda, row.index, row.index_files, row.torch, row.releases)
        assert all(place.startswith("https://") and not place.endswith("/") for place in places if place)
    assert [row.name for row in mirrors() if row.torch] == ["aliyun"]


def test_a_mirror_replaces_the_beginning_and_canonical_undoes_it() -> None:
    token = download.mirrors.set((("https://conda.anaconda.org", "https://mirror.example/anaconda/cloud"),))
    try:
        url = "https://conda.anaconda.org/conda-forge/linux-64/x-1-0.conda"
        assert download.mirrored(url) == "https://mirror.example/anaconda/cloud/conda-forge/linux-64/x-1-0.conda"
        assert download.canonical(download.mirrored(url), "https://conda.anaconda.org/conda-forge") == url
        assert download.canonical("https://other.example/x", url) == "https://other.example/x"
        assert download.mirrored("https://conda.anaconda.org.example/x") == "https://conda.anaconda.org.example/x"
    finally:
        download.mirrors.reset(token)


def test_a_file_of_the_package_index_is_fetched_from_the_mirror_by_the_path_that_all_of_them_keep() -> None:
    token = download.mirrors.set(((download.INDEX_FILES, "https://mirror.example/pypi/packages"),))
    try:
        assert download.mirrored(f"https://files.example{FILE}") == f"https://mirror.example/pypi{FILE}"
        other = "https://files.example/packages/app-1.0-py3-none-any.whl"
        assert download.mirrored(other) == other
    finally:
        download.mirrors.reset(token)


def test_the_users_own_variable_goes_before_a_named_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(download.MIRRORS_VARIABLE, "https://conda.anaconda.org=https://mine.example")
    token = download.mirrors.set((("https://conda.anaconda.org", "https://mirror.example"),))
    try:
        assert download.mirrored("https://conda.anaconda.org/x") == "https://mine.example/x"
    finally:
        download.mirrors.reset(token)
