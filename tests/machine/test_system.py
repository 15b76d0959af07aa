from __future__ import annotations

from pathlib import Path

import pytest

from provisioner.machine.system import Files, LiveSystem, path_directories, which


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "usr/local/cuda-12.4").mkdir(parents=True)
    (tmp_path / "usr/local/cuda-12.4/version.txt").write_text("CUDA Version 12.4.1\n")
    (tmp_path / "etc/alternatives").mkdir(parents=True)
    (tmp_path / "usr/local/cuda").symlink_to("/etc/alternatives/cuda")
    (tmp_path / "etc/alternatives/cuda").symlink_to("../../usr/local/cuda-12.4")
    (tmp_path / "loop").symlink_to("/loop")
    (tmp_path / "outside").symlink_to("../../../../../../../../etc/passwd")
    return Files(tmp_path)


def test_links_are_followed_inside_the_captured_tree(files: Files) -> None:
    assert files.read("/usr/local/cuda/version.txt") == "CUDA Version 12.4.1\n"
    assert files.realpath("/usr/local/cuda/version.txt") == "/usr/local/cuda-12.4/version.txt"
    assert files.glob("/usr/local", "cuda*") == ("/usr/local/cuda", "/usr/local/cuda-12.4")


def test_nothing_outside_the_tree_is_seen(files: Files) -> None:
    assert files.read("/outside") is None
    assert files.read("/../../../../../../../../etc/passwd") is None


@pytest.mark.parametrize("path", ["/loop", "/missing", "/usr/local", "/usr\0local"])
def test_what_cannot_be_read_is_none_and_never_raises(files: Files, path: str) -> None:
    assert files.read(path) is None
    assert files.search(path, rb"(x)") is None
    assert files.glob(f"{path}/version.txt", "*") == ()


def test_an_empty_file_can_be_searched(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert Files(tmp_path).search("/empty", rb"(x)") is None


def test_the_path_is_searched_in_order_and_each_directory_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "nvcc").touch()
    (tmp_path / "link").symlink_to("two")
    monkeypatch.setenv("PATH", f"{tmp_path}/two:{tmp_path}/link/:relative:{tmp_path}/one")
    assert which(LiveSystem(), "nvcc") == f"{tmp_path}/two/nvcc"
    assert path_directories(LiveSystem()) == (f"{tmp_path}/two", f"{tmp_path}/one")
