from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner.download import file_sha256
from provisioner.errors import NoRoute, SourceUnreachable
from provisioner.indexes import IndexSettings
from provisioner.locking.lock import wrong_torch
from provisioner.locking.pypi_part import Target, best_wheel, resolve
from provisioner.locking.values import LockedPackage
from provisioner.planning.values import Plan, Route
from tests.distributions import make_wheel
from tests.servers import serve, write_index

TARGET = Target("3.12", "x86_64", "2.31")


def wheel(name: str) -> dict[str, Any]:
    return {"url": f"https://index.example/{name}", "hashes": {"sha256": "0" * 64}}


def test_the_wheel_that_pip_would_take_is_chosen() -> None:
    names = [
        "x-1-cp312-cp312-manylinux_2_34_x86_64.whl",
        "x-1-cp312-cp312-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
        "x-1-cp39-abi3-manylinux2014_x86_64.whl",
        "x-1-cp311-cp311-manylinux_2_17_x86_64.whl",
        "x-1-cp312-cp312-macosx_11_0_arm64.whl",
        "x-1-py3-none-any.whl",
    ]
    chosen = best_wheel([wheel(name) for name in names], TARGET)
    assert chosen is not None
    assert chosen["url"].endswith(names[1])
    assert best_wheel([wheel(names[0])], TARGET) is None
    assert best_wheel([wheel(names[2])], TARGET) is not None
    assert best_wheel([wheel("x-1-cp312-cp312-linux_x86_64.whl")], TARGET) is not None


def torch(version: str) -> LockedPackage:
    return LockedPackage("torch", version, "pip", "linux-64", "https://index.example/torch.whl", "0" * 64)


def runtime(version: str) -> LockedPackage:
    return LockedPackage("nvidia-cuda-runtime", version, "pip", "linux-64", "https://index.example/r.whl", "0" * 64)


@pytest.mark.parametrize(
    ("packages", "right"),
    [
        ([torch("2.13.0"), runtime("13.0.96")], True),
        ([torch("2.13.0+cu130")], True),
        ([torch("2.13.0+cpu"), runtime("13.0.96")], False),
        ([torch("2.13.0+cu126")], False),
        ([torch("2.13.0")], False),
        ([torch("2.13.0"), runtime("12.8.90")], False),
    ],
)
def test_a_torch_built_for_something_else_is_noticed(packages: list[LockedPackage], right: bool) -> None:
    plan = Plan("ampere", Route.SOURCE, "3.12", "2.13.0", "13.0", None)
    assert (wrong_torch(plan, packages) is None) is right


@pytest.mark.integration
def test_what_an_index_serves_is_locked_with_its_hash_for_the_target_not_for_this_host(tmp_path: Path) -> None:
    files = tmp_path / "files"
    make_wheel(files, "app", "1.0", requires=["lib>=2", 'old; python_version < "3.12"'])
    for tag in ("cp312-cp312-manylinux_2_28_x86_64", "cp313-cp313-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_28_aarch64"):
        make_wheel(files, "lib", "2.1", tag=tag)
    make_wheel(files, "lib", "3.0", tag="cp312-cp312-manylinux_2_39_x86_64")
    write_index(tmp_path)
    with serve(tmp_path) as server:
        settings = IndexSettings("pip", f"{server.url}/simple")
        locked = resolve(["app"], TARGET, settings)
        arm = resolve(["app"], Target("3.12", "aarch64", "2.31"), settings)
    assert [(package.name, package.version) for package in locked] == [("app", "1.0"), ("lib", "2.1")]
    assert "cp312-manylinux_2_28_x86_64" in locked[1].url
    assert len(locked[1].sha256) == 64
    assert "aarch64" in arm[1].url
    assert arm[1].platform == "linux-aarch64"


@pytest.mark.integration
def test_packages_that_cannot_go_together_are_named(tmp_path: Path) -> None:
    make_wheel(tmp_path / "files", "app", "1.0", requires=["lib>=2"])
    make_wheel(tmp_path / "files", "lib", "1.0")
    write_index(tmp_path)
    with serve(tmp_path) as server, pytest.raises(NoRoute) as caught:
        resolve(["app"], TARGET, IndexSettings("pip", f"{server.url}/simple"))
    assert "lib>=2" in (caught.value.why or "")
    assert caught.value.exit_code == 3


@pytest.mark.integration
def test_an_index_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SourceUnreachable) as caught:
        resolve(["app"], TARGET, IndexSettings("pip", "http://127.0.0.1:9/simple"))
    assert "127.0.0.1" in caught.value.what
    assert caught.value.exit_code == 4


@pytest.mark.integration
def test_a_direct_http_url_is_locked_with_the_hash_of_what_lies_there(tmp_path: Path) -> None:
    """conda-lock 4.0.3 takes an ``http://`` URL for a path."""
    wheel = make_wheel(tmp_path / "elsewhere", "app", "1.0", requires=["lib"])
    make_wheel(tmp_path / "files", "lib", "1.0")
    write_index(tmp_path)
    with serve(tmp_path) as server:
        url = f"{server.url}/elsewhere/{wheel.name}"
        app = resolve([f"app @ {url}"], TARGET, IndexSettings("pip", f"{server.url}/simple"))[0]
    assert (app.name, app.url, app.sha256) == ("app", url, file_sha256(wheel))
