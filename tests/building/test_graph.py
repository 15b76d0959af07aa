"""The graph is upstream's build, reduced to what was chosen: the golden file shows every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from provisioner.building import graph, patches
from provisioner.building.graph import gencode, make_graph, ninja_text
from provisioner.building.releases import Release, find_release
from provisioner.building.selection import preset, select
from provisioner.building.target import Interpreter, Target, Torch
from provisioner.building.toolchain import Toolchain
from provisioner.errors import BuildFailed
from provisioner.planning.values import KernelSelection

GOLDEN = Path(__file__).parent / "golden"
INTERPRETER = Interpreter("3.11.7", "cp311", "cp311", ".cpython-311-x86_64-linux-gnu.so", "/inc", "linux_x86_64", (), "2.36")


def make_target(version: str = "2.13.0+cu130", *, cxx11_abi: bool = True) -> Target:
    return Target(Path("/env/bin/python"), INTERPRETER, Torch(Path("/env/torch"), version, "13.0", "abc", cxx11_abi))


NVCC_13 = Toolchain(Path("/usr/local/cuda"), "13.0.88", Path("/usr/bin/g++"), "12.2.0")


def text_for(
    release: Release, kernels: KernelSelection, target: Target, archs: tuple[str, ...], toolchain: Toolchain = NVCC_13
) -> str:
    chosen = select(release, kernels)
    declared = patches.declared(release, chosen, target.torch, archs)
    made = make_graph(release, chosen, declared, target, archs)
    return ninja_text(made, ["torch/include", "python", "cuda/include"], ["torch/lib", "cuda/lib64"], toolchain, heavy=2)


CASES = [
    pytest.param(
        "2.8.3.post2",
        KernelSelection("custom", (128,), ("bf16",), ("backward", "varlen", "uneven")),
        "2.13.0+cu130",
        ("sm_90",),
        id="llama",
    ),
    pytest.param("1.0.9", KernelSelection("custom", (32, 64), ("fp16",)), "2.14.1+cu130", ("sm_75", "compute_75"), id="turing"),
]


@pytest.mark.parametrize(("version", "kernels", "torch", "archs"), CASES)
def test_the_graph_is_the_golden_one(
    request: pytest.FixtureRequest, version: str, kernels: KernelSelection, torch: str, archs: tuple[str, ...]
) -> None:
    """Regenerate: ``GOLDEN=1 pytest tests/building/test_graph.py``, then review the diff."""
    text = text_for(find_release(version), kernels, make_target(torch), archs)
    path = GOLDEN / f"{request.node.callspec.id}.ninja"
    if os.environ.get("GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


def test_all_units_of_a_release_are_named_in_its_graph() -> None:
    release = find_release("2.8.3.post2")
    text = text_for(release, preset("full", release), make_target(), ("sm_90", "compute_90"))
    assert text.count(": cuda src/") == 72
    assert "stubs" not in text


@pytest.mark.parametrize(("torch", "standard"), [("2.13.0+cu130", "c++17"), ("2.14.1+cu130", "c++20")])
def test_the_language_standard_follows_torch(torch: str, standard: str) -> None:
    release = find_release("2.8.3.post2")
    text = text_for(release, preset("unsloth", release), make_target(torch), ("sm_90",))
    assert text.count(f"-std={standard} ") == 2
    assert text.count("-std=") == 2


def test_device_and_host_code_get_the_same_macros() -> None:
    release = find_release("2.8.3.post2")
    text = text_for(release, preset("unsloth", release), make_target(), ("sm_90",))
    cuda, host = (line for line in text.splitlines() if " -c $in" in line)
    for macro in ("-DFLASHATTENTION_DISABLE_DROPOUT", "-DFLASHATTENTION_DISABLE_ALIBI", "-D_GLIBCXX_USE_CXX11_ABI=1"):
        assert macro in cuda
        assert macro in host


@pytest.mark.parametrize(("nvcc", "seeded"), [("12.8.93", False), ("12.9.41", True), ("13.0.88", True)])
def test_names_of_internal_variables_come_from_a_seed_where_nvcc_takes_one(nvcc: str, seeded: bool) -> None:
    """Without it they hold the process id, and equal builds differ; an older nvcc would end with an unknown option."""
    release = find_release("2.8.3.post2")
    toolchain = Toolchain(Path("/usr/local/cuda"), nvcc, Path("/usr/bin/g++"), "12.2.0")
    text = text_for(release, preset("unsloth", release), make_target(), ("sm_90",), toolchain)
    assert ("--frandom-seed=$unit" in text) is seeded


def test_the_old_cxx_abi_of_torch_is_followed() -> None:
    release = find_release("2.7.4.post1")
    assert "-D_GLIBCXX_USE_CXX11_ABI=0" in text_for(
        release, preset("full", release), make_target("2.6.0+cu124", cxx11_abi=False), ("sm_80",)
    )


def test_binary_code_and_ptx_are_told_apart() -> None:
    assert gencode("sm_90") == "arch=compute_90,code=sm_90"
    assert gencode("sm_90a") == "arch=compute_90a,code=sm_90a"
    assert gencode("compute_75") == "arch=compute_75,code=compute_75"


def test_a_toolkit_without_cudart_is_refused_before_the_first_unit(tmp_path: Path) -> None:
    (tmp_path / "toolkit" / "include").mkdir(parents=True)
    with pytest.raises(BuildFailed, match="libcudart"):
        graph.lay_out(tmp_path, tmp_path, make_target(), Toolchain(tmp_path / "toolkit", "13.0.88", Path("g++"), "12.2.0"))


def test_every_command_names_only_what_lies_in_the_build_directory(tmp_path: Path) -> None:
    toolkit = tmp_path / "toolkit"
    (toolkit / "include").mkdir(parents=True)
    (toolkit / "lib64").mkdir()
    (toolkit / "lib64" / "libcudart.so").touch()
    build = tmp_path / "build"
    includes, libraries = graph.lay_out(
        build, tmp_path / "src", make_target(), Toolchain(toolkit, "13.0.88", Path("g++"), "12.2.0")
    )
    assert "cuda/include" in includes
    assert "cuda/lib64" in libraries
    assert (build / "src").readlink() == tmp_path / "src"
    assert not any(Path(folder).is_absolute() for folder in [*includes, *libraries])
