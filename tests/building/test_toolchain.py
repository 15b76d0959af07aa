"""What a toolkit looks like, and what is said before a build that could not succeed."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner import download
from provisioner.building import toolchain
from provisioner.building.releases import find_release
from provisioner.building.target import Interpreter, Target, Torch
from provisioner.building.toolchain import Toolchain, check, find_toolchain, from_wheels, requirements
from provisioner.errors import BuildFailed, SourceUnreachable
from provisioner.indexes import IndexSettings


def make_target(tmp_path: Path, *, torch: str = "2.13.0+cu130", cuda: str | None = "13.0", headers: bool = True) -> Target:
    include = tmp_path / "include"
    include.mkdir(exist_ok=True)
    if headers:
        (include / "Python.h").touch()
    interpreter = Interpreter("3.11.7", "cp311", "cp311", ".so", str(include), "linux_x86_64", (), "2.36")
    return Target(tmp_path / "bin" / "python", interpreter, Torch(tmp_path / "torch", torch, cuda, "abc", True))


def make_wheels(site: Path) -> Path:
    root = site / "nvidia" / "cu13"
    for name in ("bin/nvcc", "nvvm/bin/cicc", "include/cuda_runtime.h", "lib/libcudart.so.13", "lib/libcudadevrt.a"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_the_wheels_of_a_compiler_are_all_of_one_minor() -> None:
    wanted = requirements("13.0")
    assert "nvidia-cuda-nvcc==13.0.*" in wanted
    assert "nvidia-nvvm==13.0.*" in wanted
    assert all(item.endswith("==13.0.*") for item in wanted)


def test_cuda_12_is_refused_because_its_wheels_hold_no_nvcc() -> None:
    with pytest.raises(BuildFailed) as caught:
        requirements("12.8")
    assert caught.value.exit_code == 6


def test_wheels_become_a_toolkit_with_lib64_and_an_unversioned_cudart(tmp_path: Path) -> None:
    wheels = make_wheels(tmp_path / "site")
    root = from_wheels(tmp_path / "site")
    assert (root / "bin" / "nvcc").resolve() == wheels / "bin" / "nvcc"
    assert (root / "nvvm" / "bin" / "cicc").exists()
    assert (root / "include" / "cuda_runtime.h").exists()
    assert (root / "lib64" / "libcudart.so").resolve() == wheels / "lib" / "libcudart.so.13"
    assert (root / "lib64" / "libcudadevrt.a").exists()
    assert from_wheels(tmp_path / "site") == root


def test_the_toolkit_still_works_after_its_folder_was_moved(tmp_path: Path) -> None:
    make_wheels(tmp_path / "site")
    from_wheels(tmp_path / "site")
    (tmp_path / "site").rename(tmp_path / "moved")
    assert (tmp_path / "moved" / "cuda-home" / "lib64" / "libcudart.so").exists()


@pytest.mark.parametrize("missing", ["bin/nvcc", "nvvm/bin/cicc"])
def test_an_incomplete_set_of_wheels_is_refused(tmp_path: Path, missing: str) -> None:
    (make_wheels(tmp_path / "site") / missing).unlink()
    with pytest.raises(BuildFailed) as caught:
        from_wheels(tmp_path / "site")
    assert caught.value.code == "no-compiler"


def test_torch_and_nvcc_of_different_majors_are_refused(tmp_path: Path) -> None:
    chain = Toolchain(tmp_path, "12.8.93", Path("g++"), "12.2.0")
    with pytest.raises(BuildFailed) as caught:
        check(chain, make_target(tmp_path), None, [])
    assert caught.value.code == "cuda-mismatch"


def test_a_cpu_torch_is_refused(tmp_path: Path) -> None:
    chain = Toolchain(tmp_path, "13.0.88", Path("g++"), "12.2.0")
    with pytest.raises(BuildFailed) as caught:
        check(chain, make_target(tmp_path, torch="2.13.0+cpu", cuda=None), None, [])
    assert caught.value.code == "cpu-torch"


def test_missing_python_headers_are_named_with_their_package(tmp_path: Path) -> None:
    chain = Toolchain(tmp_path, "13.0.88", Path("g++"), "12.2.0")
    with pytest.raises(BuildFailed, match="headers") as caught:
        check(chain, make_target(tmp_path, headers=False), None, [])
    assert any("python3-dev" in hint for hint in caught.value.hints)


@pytest.mark.parametrize(
    ("cuda", "gcc", "fits"), [("12.4.131", "13.2.0", True), ("12.4.131", "14.1.0", False), ("13.0.88", "16.0.0", False)]
)
def test_a_host_compiler_that_nvcc_refuses_is_found_before_the_build(tmp_path: Path, cuda: str, gcc: str, fits: bool) -> None:
    chain = Toolchain(tmp_path, cuda, Path("g++"), gcc)
    target = make_target(tmp_path, cuda=cuda[:4])
    if fits:
        toolchain._check_host(chain, target)
    else:
        with pytest.raises(BuildFailed) as caught:
            toolchain._check_host(chain, target)
        assert caught.value.code == "host-compiler"


def test_a_gcc_without_cxx20_is_refused_for_a_torch_that_needs_it(tmp_path: Path) -> None:
    chain = Toolchain(tmp_path, "13.0.88", Path("g++"), "9.4.0")
    toolchain._check_host(chain, make_target(tmp_path))
    with pytest.raises(BuildFailed, match=r"C\+\+20"):
        toolchain._check_host(chain, make_target(tmp_path, torch="2.14.1+cu130"))


@pytest.mark.subprocess
def test_no_toolkit_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        find_toolchain(make_target(tmp_path), cuda_root=tmp_path / "nowhere")
    assert caught.value.exit_code == 6
    assert "--fetch-compiler" in caught.value.hints[0]


@pytest.mark.subprocess
def test_an_arch_whose_kernels_would_only_print_errors_is_refused(tmp_path: Path) -> None:
    chain = Toolchain(tmp_path, "13.0.88", Path("g++"), "12.2.0")
    for arch, adapter in (("sm_75", "turing109"), ("sm_70", "aten")):
        with pytest.raises(BuildFailed, match=f"no kernels for {arch}") as caught:
            check(chain, make_target(tmp_path), find_release("2.8.3.post2"), [arch])
        assert f"--adapter {adapter}" in caught.value.hints[0]
    check(chain, make_target(tmp_path), find_release("1.0.9"), ["sm_75", "sm_90"])
    with pytest.raises(BuildFailed, match="refuses to run on sm_120"):
        check(chain, make_target(tmp_path), find_release("1.0.9"), ["sm_120"])


@pytest.mark.integration
def test_an_index_that_does_not_answer_is_no_lack_of_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's own index is asked for it, and no other."""
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(SourceUnreachable) as caught:
        toolchain.install_wheels("13.0", IndexSettings("pip", "http://127.0.0.1:9/simple"))
    assert (caught.value.exit_code, caught.value.code) == (4, "index-unreachable")
    assert "127.0.0.1:9" in (caught.value.why or "")


@pytest.mark.integration
def test_offline_no_compiler_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    token = download.offline.set(True)
    try:
        with pytest.raises(SourceUnreachable) as caught:
            toolchain.install_wheels("13.0", IndexSettings())
    finally:
        download.offline.reset(token)
    assert caught.value.code == "offline"


@pytest.mark.subprocess
def test_a_program_that_tells_no_version_is_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BuildFailed, match="no C"):
        toolchain._find_cxx(make_target(tmp_path), "true")
    monkeypatch.setenv("CXX", "true")
    assert toolchain._find_cxx(make_target(tmp_path), None)[0].name != "true"
