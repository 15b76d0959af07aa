from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.capability import ComputeCapability
from provisioner.machine.facts import Gpu, Machine, Platform, Software
from provisioner.wheels.inspection import Extension, Inspection, Subject, with_extensions
from provisioner.wheels.linkage import Abi
from provisioner.wheels.verdict import Target, reject_reasons, runs_on

GOOD = Extension(
    "flash_attn_2_cuda.so",
    1,
    archs=("sm_80", "sm_90"),
    images={"sm_80": 72, "sm_90": 72},
    abi=Abi.CXX11,
    glibc="2.32",
    cudart="12",
    needed=("libtorch.so", "libcudart.so.12"),
)
WHEEL = Inspection(
    "flash_attn-2.8.3+cu12torch2.9cxx11abiTRUE-cp312-cp312-linux_x86_64.whl",
    Subject.WHEEL,
    distribution="flash-attn",
    torch="2.9",
    tags=("cp312-cp312-linux_x86_64",),
    kernels=True,
)
TARGET = Target(("8.6", "9.0"), "2.35", "3.12", "x86_64", "2.9.1+cu128", "12.8", Abi.CXX11)


def codes(extension: Extension = GOOD, target: Target = TARGET, wheel: Inspection = WHEEL) -> list[str]:
    return [reason.code for reason in reject_reasons(with_extensions(wheel, [extension]), target)]


@pytest.mark.parametrize(
    ("arch", "gpu", "runs"),
    [
        ("sm_80", "8.0", True),
        ("sm_80", "8.9", True),
        ("sm_86", "8.0", False),
        ("sm_80", "9.0", False),
        ("sm_90a", "9.0", True),
        ("sm_100a", "10.3", False),
        ("sm_100f", "10.3", True),
        ("sm_100f", "12.0", False),
        ("compute_80", "9.0", True),
        ("compute_90", "8.6", False),
        ("compute_90a", "10.0", False),
        ("compute_100f", "10.3", True),
        ("compute_100f", "12.0", False),
        ("lto_80", "8.0", False),
    ],
)
def test_what_runs_where(arch: str, gpu: str, runs: bool) -> None:
    assert runs_on(arch, ComputeCapability.parse(gpu)) is runs


def test_a_fitting_wheel_has_nothing_against_it() -> None:
    assert codes() == []


def test_what_is_not_known_raises_no_objection() -> None:
    assert codes(target=Target()) == []


def test_a_gpu_without_kernels_is_named() -> None:
    found = reject_reasons(with_extensions(WHEEL, [GOOD]), replace(TARGET, gpus=("9.0", "12.0")))
    assert [reason.code for reason in found] == ["no-kernel-image"]
    assert "sm_80, sm_90" in found[0].text
    assert "12.0" in found[0].text


def test_a_lone_ptx_of_a_helper_does_not_make_it_run() -> None:
    helped = replace(GOOD, archs=(*GOOD.archs, "compute_52"), images={**GOOD.images, "compute_52": 1})
    assert codes(helped, replace(TARGET, gpus=("12.0",))) == ["no-kernel-image"]


def test_stubs_are_refused_for_the_gpu_they_pretend_to_serve_and_only_there() -> None:
    mixed = replace(GOOD, archs=("sm_75", "sm_80"), stubs=("sm_75",), images={"sm_75": 72, "sm_80": 72})
    assert codes(mixed, replace(TARGET, gpus=("7.5",))) == ["stub-kernels"]
    assert codes(mixed, replace(TARGET, gpus=("8.6",))) == []


def test_a_build_of_nothing_but_stubs_is_refused_everywhere() -> None:
    stubs = replace(GOOD, archs=("sm_75",), stubs=("sm_75",), images={"sm_75": 72})
    assert codes(stubs, Target()) == ["stub-kernels"]
    assert codes(stubs, replace(TARGET, gpus=("8.0",))) == ["no-kernel-image"]


def test_a_kernel_less_wheel_is_refused_whatever_the_target() -> None:
    empty = replace(WHEEL, missing_module="flash_attn_2_cuda", kernels=False, tags=("py3-none-any",))
    assert [reason.code for reason in reject_reasons(empty, Target())] == ["no-kernels"]
    assert [reason.code for reason in reject_reasons(empty, TARGET)] == ["no-kernels"]


def test_a_rocm_build_is_refused_on_nvidia_gpus() -> None:
    rocm = replace(GOOD, archs=(), images={}, needed=("libtorch.so", "libamdhip64.so.6"), cudart=None)
    assert codes(rocm, wheel=replace(WHEEL, kernels=False)) == ["no-kernels"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"glibc": "2.36"}, "glibc-too-old"),
        ({"cudart": "13"}, "libcudart-missing"),
        ({"abi": Abi.PRE_CXX11}, "undefined-symbol-abi-mismatch"),
        ({"undefined": ("_ZN3c107renamedEi",)}, "undefined-symbol-abi-mismatch"),
        ({"missing_libraries": ("libcudart.so.12",), "undefined": ()}, "libcudart-missing"),
        ({"missing_libraries": ("libnccl.so.2",), "undefined": ()}, "library-missing"),
        ({"missing_versions": ("GLIBC_2.38",), "undefined": ()}, "glibc-too-old"),
        ({"missing_versions": ("GLIBCXX_3.4.32",), "undefined": ()}, "libstdcxx-too-old"),
    ],
)
def test_each_fault_of_the_binary_has_its_code(change: dict[str, object], code: str) -> None:
    assert codes(replace(GOOD, **change)) == [code]  # type: ignore[arg-type]


def test_the_stable_abi_fits_every_torch() -> None:
    stable = replace(GOOD, abi=Abi.STABLE)
    assert codes(stable, replace(TARGET, torch="2.10.0", abi=Abi.PRE_CXX11)) == []


def test_a_wheel_for_another_torch_minor_is_refused_unless_the_link_showed_otherwise() -> None:
    newer = replace(TARGET, torch="2.10.0")
    assert codes(target=newer) == ["undefined-symbol-abi-mismatch"]
    assert codes(replace(GOOD, undefined=(), missing_libraries=()), newer) == []


@pytest.mark.parametrize(
    ("tag", "python", "machine", "fits"),
    [
        ("cp312-cp312-linux_x86_64", "3.12", "x86_64", True),
        ("cp312-cp312-linux_x86_64", "3.12.3", "x86_64", True),
        ("cp312-cp312-linux_x86_64", "3.11", "x86_64", False),
        ("cp312-cp312-linux_x86_64", "3.12", "aarch64", False),
        ("cp39-abi3-manylinux_2_28_x86_64", "3.12", "x86_64", True),
        ("cp313-abi3-manylinux_2_28_x86_64", "3.12", "x86_64", False),
        ("py3-none-any", "3.12", "aarch64", True),
        ("py39-none-manylinux_2_28_x86_64", "3.12", "x86_64", True),
        ("cp312-cp312-win_amd64", "3.12", "x86_64", False),
        ("cp313-cp313t-linux_x86_64", "3.13", "x86_64", False),
        ("cp313-cp313t-linux_x86_64", "3.13t", "x86_64", True),
        ("py3-none-any", "3.13t", "x86_64", True),
        ("cp312-cp312-musllinux_1_2_x86_64", "3.12", "x86_64", False),
    ],
)
def test_tags_are_held_against_python_and_processor(tag: str, python: str, machine: str, fits: bool) -> None:
    target = replace(TARGET, python=python, machine=machine)
    assert (codes(target=target, wheel=replace(WHEEL, tags=(tag,))) == []) is fits


def test_of_one_library_per_cuda_release_only_the_one_for_this_torch_counts() -> None:
    """bitsandbytes carries a library for each CUDA, and for ROCm and XPU, and loads the one for the torch it meets."""
    eleven = replace(GOOD, path="cuda118.so", cudart="11", missing_libraries=("libcudart.so.11.0",), undefined=("gone",))
    twelve = replace(GOOD, path="cuda128.so", missing_libraries=(), undefined=())
    rocm = Extension("rocm.so", 1, needed=("libamdhip64.so.6",), missing_libraries=("libamdhip64.so.6",), undefined=("hip",))
    found = with_extensions(replace(WHEEL, distribution="bitsandbytes"), [eleven, twelve, rocm])
    assert reject_reasons(found, TARGET) == ()
    assert [one.code for one in reject_reasons(found, replace(TARGET, torch_cuda="13.0"))] != []


def test_a_partly_read_wheel_is_not_refused_for_what_was_not_seen() -> None:
    partly = replace(GOOD, complete=False)
    assert codes(partly, replace(TARGET, gpus=("12.0",))) == []


def test_the_target_of_a_machine_takes_its_facts() -> None:
    machine = Machine(
        gpus=(Gpu(compute_capability="9.0"), Gpu(compute_capability="9.0"), Gpu()),
        platform=Platform(glibc="2.35", machine="x86_64"),
        software=Software(python="3.12.1", torch="2.9.1", torch_cuda="12.8", torch_cxx11_abi=True),
    )
    assert Target.of(machine) == Target(("9.0",), "2.35", "3.12.1", "x86_64", "2.9.1", "12.8", Abi.CXX11)


@given(st.sampled_from(["sm", "compute"]), st.integers(50, 129), st.sampled_from(["", "a", "f"]), st.integers(50, 129))
def test_no_machine_code_runs_on_another_major(kind: str, built: int, suffix: str, gpu: int) -> None:
    if kind == "sm" and built // 10 != gpu // 10:
        assert not runs_on(f"{kind}_{built}{suffix}", ComputeCapability(gpu // 10, gpu % 10))
