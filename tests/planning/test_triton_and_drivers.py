"""What triton's assembler, the first and last driver of a GPU and xformers' CUDA runtime decide; the source of each is named at its test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from provisioner.errors import NoRoute
from provisioner.machine.facts import Driver, Machine
from provisioner.planning.catalog import Catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import Plan, Request, Route
from tests.planning.machines import machine

GB10 = machine("NVIDIA GB10=12.1", "580.95.05", "2.39", processor="aarch64")
B300 = machine("NVIDIA B300=10.3", "580.65.06", "2.35")
B200 = machine("NVIDIA B200=10.0", "580.65.06", "2.35")
T4 = machine("Tesla T4=7.5", "515.105.01", "2.35")


def why_refused(machine: Machine, catalog: Catalog, **request: object) -> NoRoute:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine, Request(**request), catalog)  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize(("box", "triton"), [(B200, "3.5.1"), (B300, "3.6.0"), (GB10, "3.7.1")])
def test_a_gpu_gets_a_triton_whose_assembler_knows_it(plan: Callable[..., Plan], box: Machine, triton: str) -> None:
    """triton#8539 (GB10), #8485 (GB300): ptxas 12.8.93 in 3.5.1 knows sm_100, neither sm_103 nor sm_121; 3.6.0 has 12.9.86 beside it."""
    assert plan(box).triton == triton


@pytest.mark.parametrize(
    ("box", "route"), [(B300, Route.WHEEL), (GB10, Route.SOURCE), (replace(B300, driver=Driver("575.57.08")), Route.WHEEL)]
)
def test_a_gpu_newer_than_cuda_128_gets_cuda_13_where_its_driver_runs_it(
    plan: Callable[..., Plan], box: Machine, route: Route
) -> None:
    """autoresearch#207: a GB10 trained 2.9 times as fast with CUDA 13.0 as with 12.8, whose libraries end at sm_120."""
    chosen = plan(box)
    new = box.driver.version != "575.57.08"
    assert (chosen.route, chosen.cuda) == (route, "13.0" if new else "12.8")
    assert any("is older than sm_103" in note for note in chosen.notes) is not new


def test_elsewhere_cuda_12_stays_the_first_choice(plan: Callable[..., Plan]) -> None:
    for gpu in ("NVIDIA H100 80GB HBM3=9.0", "NVIDIA B200=10.0", "NVIDIA GeForce RTX 5090=12.0"):
        assert plan(machine(gpu, "580.95.05")).cuda == "12.8"


def test_a_torch_whose_triton_does_not_know_the_gpu_is_refused_with_the_next_one(catalog: Catalog) -> None:
    error = why_refused(GB10, catalog, torch="2.9")
    assert "ptxas 12.8.93, which does not know sm_121" in (error.why or "")
    assert any("--torch 2.10" in hint for hint in error.hints)


def test_flash_attn_alone_needs_no_triton(plan: Callable[..., Plan]) -> None:
    assert plan(B300, torch="2.9", only_flash_attn=True).triton == "3.5.1"


@pytest.mark.parametrize(
    ("gpu", "driver", "wsl", "known"),
    [
        ("NVIDIA L40S=8.9", "470.223.02", "no", False),
        (
            "NVIDIA L40S=8.9",
            "520.56.06",
            "no",
            True,
        ),  # of the branch, though older than the driver that CUDA 11.8 brought
        ("NVIDIA H100 PCIe=9.0", "515.65.01", "no", False),
        ("NVIDIA GeForce RTX 4090=8.9", "516.94", "2", False),
        ("NVIDIA A10=8.6", "470.223.02", "no", True),
        ("Tesla T4=7.5", "450.80.02", "no", True),
    ],
)
def test_a_driver_older_than_the_gpu_is_refused_whatever_its_cuda(
    plan: Callable[..., Plan], catalog: Catalog, gpu: str, driver: str, wsl: str, known: bool
) -> None:
    """CUDA 11.8 release notes: the first toolkit, and its branch the first driver, with compute capability 8.9 and 9.0."""
    box = machine(gpu, driver, "2.35", wsl=wsl)
    if known:
        assert plan(box).cuda == "11.8"
        return
    error = why_refused(box, catalog)
    assert "needs driver 520.0 or newer" in (error.why or "")
    assert any("first that knows" in hint and "580" in hint for hint in error.hints)


@pytest.mark.parametrize(("offered", "cuda"), [("11.4", "11.8"), ("12.2", "12.8"), ("12.7", "12.8"), ("13.9", "12.8")])
def test_where_only_the_drivers_cuda_is_known_the_plan_keeps_to_it(plan: Callable[..., Plan], offered: str, cuda: str) -> None:
    """nvidia-smi's banner without its driver field: the CUDA version names the least driver that it can be (CUDA release notes, table 3)."""
    box = replace(machine("NVIDIA GeForce RTX 3090=8.6", None, "2.35"), driver=Driver(cuda=offered))
    chosen = plan(box)
    assert chosen.cuda == cuda
    assert any(f"offers CUDA {offered}" in note for note in chosen.notes)


def test_a_refusal_does_not_invent_a_driver_version(catalog: Catalog) -> None:
    box = replace(machine("NVIDIA GeForce RTX 3090=8.6", None, "2.35"), driver=Driver(cuda="12.4"))
    error = why_refused(box, catalog, cuda="13.0")
    assert "this machine's offers CUDA 12.4" in (error.why or "")


def test_a_voltas_last_driver_is_named_and_no_newer_one_advised(plan: Callable[..., Plan], catalog: Catalog) -> None:
    """580 was announced as the last driver branch for Maxwell, Pascal and Volta; 590 lists Turing as its oldest."""
    assert any("580 is the last driver branch" in note for note in plan(machine("Tesla V100-SXM2-32GB=7.0", "535.104.05")).notes)
    error = why_refused(machine("Tesla V100-SXM2-32GB=7.0", "450.51.06", "2.28"), catalog)
    hint = next(hint for hint in error.hints if hint.startswith("update the driver"))
    assert "CUDA 12" in hint
    assert "CUDA 13" not in hint


def test_xformers_for_cuda_12_beside_a_cuda_11_torch_leaves_sdpa(plan: Callable[..., Plan]) -> None:
    """xformers/cpp_lib.json of 0.0.29.post3: built for CUDA 12.4; every index gives torch alone, so xformers is the package index's."""
    chosen = plan(T4)
    assert (chosen.torch_index, chosen.attention) == ("cu118", "sdpa")
    assert any("operators do not load" in note for note in chosen.notes)


def test_a_turing_gpu_gets_the_cuda_whose_xformers_loads(plan: Callable[..., Plan]) -> None:
    """The package index's torch 2.11 is for CUDA 13, xformers 0.0.35 for CUDA 12 (on an H100 its operators did not load, 2026-11-24)."""
    chosen = plan(machine("Tesla T4=7.5", "580.65.06"), torch="2.11")
    assert (chosen.cuda, chosen.attention) == ("12.8", "xformers")


def test_a_named_torch_comes_from_the_package_index_where_that_has_it(plan: Callable[..., Plan]) -> None:
    chosen = plan(machine("NVIDIA GeForce RTX 4090=8.9", "580.65.06"), torch="2.12")
    assert (chosen.torch_index, chosen.cuda) == (None, "13.0")
    old = plan(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), python="3.9", only_flash_attn=True)
    assert (old.torch_index, old.torch, old.route) == (None, "2.7.1", Route.WHEEL)


@pytest.mark.parametrize("gpu", ["Tesla T4=7.5", "Tesla V100-SXM2-32GB=7.0"])
def test_python_314_has_native_stacks_below_80_too(plan: Callable[..., Plan], gpu: str) -> None:
    """torch 2.10.0 and triton 3.6.0 have wheels for Python 3.14 (package index, 2026-11-24)."""
    chosen = plan(machine(gpu, "535.104.05"), python="3.14")
    assert (chosen.torch, chosen.cuda, chosen.torch_index) == ("2.10.0", "12.8", None)
    assert not any("forward-compatibility" in note for note in chosen.notes)


@pytest.mark.parametrize(("python", "wsl"), [("3.10", "no"), ("3.11", "2"), ("3.13", "2")])
def test_blackwell_gets_the_official_wheel_for_torch_27_on_other_pythons(
    plan: Callable[..., Plan], python: str, wsl: str
) -> None:
    """flash-attention#2016: RTX 5090, Python 3.10, torch 2.7.1+cu128 and 2.8.0.post2 work, without a build."""
    chosen = plan(machine("NVIDIA GeForce RTX 5090=12.0", "581.29", "2.35", wsl=wsl), python=python)
    assert (chosen.route, chosen.torch, chosen.torch_index) == (Route.WHEEL, "2.7.1", "cu128")
    assert chosen.flash_attn
    assert chosen.flash_attn.version == "2.8.0.post2"
    assert chosen.flash_attn.sha256


def test_a_wheel_that_goes_with_two_builds_of_a_torch_is_a_candidate_with_each(plan: Callable[..., Plan]) -> None:
    chosen = plan(machine("NVIDIA GeForce RTX 5090=12.0", "580.65.06"), torch="2.7")
    found = {c.id: c.cuda for c in chosen.candidates if c.id.startswith("wheel:2.8.0.post2+cu12torch2.7cxx11abiTRUE-cp312")}
    assert {"12.6", "12.8"} <= set(found.values())
    assert (chosen.route, chosen.cuda) == (Route.WHEEL, "12.8")


def test_audited_community_wheels_serve_an_older_c_library(plan: Callable[..., Plan]) -> None:
    """flash-attention-prebuild-wheels#38: audited since 2026-01; the same wheel as it was built needs glibc 2.32 (flash-attention#2225)."""
    box = machine("NVIDIA A100-SXM4-80GB=8.0", "550.54.15", "2.28")
    chosen = plan(box, allow_community=True)
    assert chosen.flash_attn
    assert (chosen.route, chosen.flash_attn.trust) == (Route.WHEEL, "community")
    assert "manylinux_2_28" in (chosen.flash_attn.filename or "")
    assert any(c.code == "glibc-too-old" and "@community" in c.id for c in chosen.candidates)


@pytest.mark.parametrize(("release", "planned"), [("36.3", True), ("36.4.3", True), ("35.4.1", False), ("39.0", False)])
def test_a_jetsons_torch_is_that_of_its_own_jetpack(
    plan: Callable[..., Plan], catalog: Catalog, release: str, planned: bool
) -> None:
    """jetson-ai-lab serves one index for each JetPack: another's torch wants another glibc, Python and CUDA (jetson-orin-setup#6)."""
    box = machine("Orin (nvgpu)=8.7", "540.4.0" if planned else None, "2.35", processor="aarch64", jetson=release)
    if planned:
        assert plan(box).torch_index == "jetson/jp6/cu126"
    else:
        error = why_refused(box, catalog)
        assert f"this board has {release}" in (error.why or "")
        assert any("JetPack 6" in hint for hint in error.hints)


def test_thor_gets_its_environment_without_flash_attn(plan: Callable[..., Plan]) -> None:
    """setup.py of 2.8.3.post2 has no 110; torch's CUDA 13 builds for aarch64 and the assembler of triton 3.7.1 have it."""
    chosen = plan(machine("NVIDIA Thor=11.0", "580.00", "2.39", processor="aarch64", jetson="38.2"))
    assert (chosen.route, chosen.cuda, chosen.attention) == (Route.NONE, "13.0", "sdpa")
    assert any("no release of 2.x names sm_110" in note for note in chosen.notes)


@pytest.mark.parametrize(("recipe", "capability"), [("ampere", "8.0"), ("turing", "7.5"), ("volta", "7.0")])
def test_a_recipe_named_on_a_machine_without_a_gpu_means_its_gpu(plan: Callable[..., Plan], recipe: str, capability: str) -> None:
    chosen = plan(machine(""), recipe=recipe)
    assert chosen.gpu_classes == (f"sm_{capability.replace('.', '')}",)
    assert (chosen.flash_attn is not None, chosen.xformers is not None, chosen.driver_floor is not None) == (True, True, True)
    assert any(f"compute capability {capability}" in note for note in chosen.notes)
    assert plan(machine(""), recipe="cpu").gpu_classes == ()


def test_the_adapter_that_a_note_offers_can_be_had_as_it_says(plan: Callable[..., Plan]) -> None:
    """Beside xformers 0.0.29.post3 (torch 2.6) the adapter stands for 2.7.2, beside newer ones for 2.8.x."""
    for driver in ("510.54", "550.54.15"):
        box = machine("NVIDIA GeForce RTX 3090=8.6,NVIDIA GeForce RTX 2080 Ti=7.5", driver)
        (offer,) = (note for note in plan(box).notes if "come with the adapter" in note)
        version = offer.partition("--flash-attn ")[2].partition(")")[0]
        assert plan(box, flash_attn=version).route is Route.SHIM


def test_nothing_is_compiled_for_a_driver_that_would_not_run_it(plan: Callable[..., Plan]) -> None:
    """No place gives cuda-compat unasked, so without it torch for CUDA 13 finds no GPU over driver 550 (CUDA Compatibility guide)."""
    dead = "conda-channel torch-index releases"
    walled = machine("NVIDIA H100 80GB HBM3=9.0", "550.54.15", "2.36", pythons="3.11", gcc="12.2", dead=dead)
    chosen = plan(walled)
    assert (chosen.route, chosen.cuda, chosen.attention) == (Route.NONE, "12.8", "xformers")
    asked = plan(walled, cuda="13.0")
    assert asked.route is Route.SOURCE
    assert any("forward-compatibility" in note for note in asked.notes)
