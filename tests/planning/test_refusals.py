"""Refusals name what is really in the way, and their way out works."""

from __future__ import annotations

import pytest

from provisioner.building.releases import COMPILED
from provisioner.errors import NoRoute, SourceUnreachable
from provisioner.knowledge import torch_builds
from provisioner.planning.catalog import Catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import BuildChoice, Request, Route
from tests.planning.machines import machine

EVERYTHING = "conda-channel package-index torch-index releases"


@pytest.mark.parametrize("gpu", ["NVIDIA GeForce RTX 4090=8.9", "NVIDIA H100 80GB HBM3=9.0", "Tesla T4=7.5"])
def test_where_nothing_answers_the_sources_are_to_blame_and_not_the_driver(catalog: Catalog, gpu: str) -> None:
    """A driver that is too old for CUDA 13 rejects a stack as well, but updating it would not help."""
    with pytest.raises(SourceUnreachable) as caught:
        make_plan(machine(gpu, "550.54.15", dead=EVERYTHING), Request(), catalog)
    assert caught.value.exit_code == 4
    assert not any("driver" in hint for hint in caught.value.hints)


def test_a_driver_that_would_not_do_anyway_is_to_blame_before_the_sources(catalog: Catalog) -> None:
    with pytest.raises(NoRoute, match="nothing that exists"):
        make_plan(machine("NVIDIA B200=10.0", "550.54.15", dead=EVERYTHING), Request(), catalog)


@pytest.mark.parametrize(("gpu", "capability"), [("GTX 1080 Ti", "6.1"), ("Tesla M40", "5.2"), ("Tesla K80", "3.7")])
def test_an_old_gpu_is_told_the_newest_torch_that_has_kernels_for_it(catalog: Catalog, gpu: str, capability: str) -> None:
    box = machine(f"{gpu}={capability}", "470.223.02")
    with pytest.raises(NoRoute) as caught:
        make_plan(box, Request(), catalog)
    covering = [
        build
        for build in torch_builds.builds()
        if build.machine == "x86_64" and build.cuda and box.gpus[0].capability and build.runs_on(box.gpus[0].capability)
    ]
    assert f"torch {covering[-1].torch} for CUDA {covering[-1].cuda}" in (caught.value.why or "")
    assert ("xformers" in (caught.value.why or "")) is (capability >= "5.0")


def test_a_gpu_that_no_torch_2_serves_is_promised_nothing(catalog: Catalog) -> None:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("Tesla K40m=3.5", "470.223.02"), Request(), catalog)
    assert caught.value.why == "no torch 2.x holds kernels for it either"


def test_an_old_gpu_beside_a_good_one_is_told_how_to_leave_it_out(catalog: Catalog) -> None:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("NVIDIA GeForce RTX 4090=8.9,NVIDIA GeForce GTX 1080=6.1", "550.54.15"), Request(), catalog)
    assert "--gpu sm_89" in caught.value.hints[0]
    assert "CUDA_VISIBLE_DEVICES" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("driver", "offered"), [("535.104.05", False), ("580.95.05", True)], ids=["no-nvcc-for-it", "the-index-has-nvcc-13"]
)
def test_build_is_offered_only_where_it_would_work(catalog: Catalog, driver: str, offered: bool) -> None:
    """Under WSL nothing is compiled unasked; the package index has an nvcc for CUDA 13 alone."""
    dead = "conda-channel torch-index releases"
    box = machine("NVIDIA GeForce RTX 3090=8.6", driver, wsl="2", pythons="3.10", gcc="11.4", dead=dead)
    plan = make_plan(box, Request(), catalog)
    note = next(note for note in plan.notes if note.startswith("flash-attn is left out"))
    assert ("--build" in note) is offered
    if offered:
        assert make_plan(box, Request(build=BuildChoice.ALWAYS), catalog).flash_attn is not None


def test_flash_attention_3_is_told_apart(catalog: Catalog) -> None:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("NVIDIA H100=9.0", "580.65.06"), Request(flash_attn="3"), catalog)
    assert "flash_attn_3" in (caught.value.why or "")
    assert any("--flash-attn 2.8" in hint for hint in caught.value.hints)


def test_a_torch_whose_kernels_are_not_known_is_said_to_be_that(catalog: Catalog) -> None:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("NVIDIA H100=9.0", "610.43.02"), Request(torch="2.15", only_flash_attn=True), catalog)
    assert "is not known [torch-archs-unknown" in (caught.value.why or "")


@pytest.mark.parametrize("gpu", ["NVIDIA GeForce RTX 4090=8.9", "Tesla T4=7.5"])
def test_a_python_that_unsloth_cannot_be_installed_into_is_refused_and_not_planned_without_it(catalog: Catalog, gpu: str) -> None:
    """unsloth 2026.10.9 requires peft >= 0.18.0, which has no release for Python 3.9 (package index, 2026-11-27)."""
    box = machine(gpu, "550.54.15")
    with pytest.raises(NoRoute) as caught:
        make_plan(box, Request(python="3.9"), catalog)
    assert "unsloth" in (caught.value.why or "")
    assert any("--python 3.10" in hint for hint in caught.value.hints)
    assert "leave Unsloth out: --only flash-attn" in caught.value.hints
    assert make_plan(box, Request(python="3.9", only_flash_attn=True), catalog).python == "3.9"


def test_a_torch_above_unsloths_bound_is_refused_without_a_way_that_is_none(catalog: Catalog) -> None:
    """METADATA of unsloth 2026.10.9: torch < 2.15."""
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("NVIDIA H100=9.0", "610.43.02"), Request(torch="2.15"), catalog)
    assert "<2.15.0" in (caught.value.why or "")
    assert not any("--only" in hint for hint in caught.value.hints)


def test_a_torch_that_is_named_and_too_old_for_unsloth_is_said_to_leave_it_out(catalog: Catalog) -> None:
    plan = make_plan(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(torch="2.3"), catalog)
    assert not [text for text in plan.requirements if text.startswith("unsloth")]
    assert any("Unsloth is left out" in note for note in plan.notes)


def test_a_gpu_newer_than_every_build_is_refused_with_something_to_type(catalog: Catalog) -> None:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine("NVIDIA Rubin=10.7", "610.43.02"), Request(), catalog)
    assert any("--explain" in hint for hint in caught.value.hints)


@pytest.mark.parametrize("gpu", ["Tesla T4=7.5", "Tesla V100-SXM2-32GB=7.0", "NVIDIA A100-SXM4-80GB=8.0"])
def test_a_newer_c_library_alone_refuses_nothing(catalog: Catalog, gpu: str) -> None:
    """Driver 470 without PyTorch's own index: torch 2.6 for CUDA 12.4 through cuda-compat, with Unsloth where its wheels install."""
    for glibc in ("2.17", "2.27", "2.28", "2.35"):
        plan = make_plan(machine(gpu, "470.223.02", glibc, dead="torch-index"), Request(), catalog)
        assert (plan.torch, plan.cuda) == ("2.6.0", "12.4")
        assert ("unsloth>=2026.10" in plan.requirements) is (glibc >= "2.28")


@pytest.mark.parametrize("driver", ["590.44.01", "595.10"])
def test_a_driver_of_a_later_branch_than_the_gpus_last_is_refused(catalog: Catalog, driver: str) -> None:
    with pytest.raises(NoRoute, match="does not see Tesla V100") as caught:
        make_plan(machine("Tesla V100-SXM2-16GB=7.0", driver), Request(), catalog)
    assert (caught.value.code, caught.value.exit_code) == ("driver-too-new", 3)
    assert "580" in caught.value.hints[0]
    assert make_plan(machine("Tesla V100-SXM2-16GB=7.0", "580.95.05"), Request(), catalog).torch
    assert make_plan(machine("Tesla T4=7.5", driver), Request(), catalog).torch


def test_a_release_that_is_not_compiled_here_is_never_chosen_and_says_which_are(catalog: Catalog) -> None:
    box = machine("NVIDIA H100 80GB HBM3=9.0", "580.95.05")
    with pytest.raises(NoRoute, match="nothing that exists") as caught:
        make_plan(box, Request(flash_attn="2.5.8", build=BuildChoice.ALWAYS), catalog)
    assert "2.5.8 is not among the releases that are compiled here: 2.8.3.post2" in (caught.value.why or "")


@pytest.mark.parametrize("torch", sorted({build.torch.rpartition(".")[0] for build in torch_builds.builds()}))
def test_what_is_to_be_compiled_beside_any_torch_is_a_release_that_the_build_knows(catalog: Catalog, torch: str) -> None:
    box = machine("NVIDIA H100 80GB HBM3=9.0", "580.95.05")
    try:
        chosen = make_plan(box, Request(torch=torch, build=BuildChoice.ALWAYS), catalog)
    except NoRoute:
        return
    assert chosen.flash_attn is not None
    assert chosen.flash_attn.version in COMPILED


def test_every_recipe_compiles_releases_that_the_build_knows(catalog: Catalog) -> None:
    compiled = {
        version
        for recipe in catalog.recipes
        for stack in recipe.stacks
        if stack.route is Route.SOURCE
        for version in stack.flash_attn
    }
    assert compiled
    assert compiled <= set(COMPILED)
