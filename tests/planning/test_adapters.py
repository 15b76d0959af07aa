"""The 2.x adapter in plans: which kernels, which version, on which machines, and what it is said to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from packaging.version import Version

from provisioner.errors import NoRoute
from provisioner.knowledge import flash_attn, packages
from provisioner.machine.facts import Machine
from provisioner.planning import adapters
from provisioner.planning.catalog import Catalog, load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.recipe import Stack
from provisioner.planning.values import BuildChoice, KernelSelection, Plan, Request, Route
from tests.planning.machines import machine

T4 = machine("Tesla T4=7.5", "550.54.15", "2.35")
V100 = machine("Tesla V100-SXM2-32GB=7.0", "550.54.15", "2.35")
MIXED = machine("NVIDIA GeForce RTX 4090=8.9,NVIDIA GeForce RTX 2080 Ti=7.5", "550.54.15")
VENV = machine("Tesla T4=7.5", "580.65.06", pythons="3.12", gcc="12.2", dead="conda-channel")

STACKS = [stack for recipe in load_catalog().recipes for stack in recipe.stacks if stack.route is Route.SHIM]
XFORMERS = [release.xformers for release in packages.xformers()]


def version_of(plan: Plan) -> str | None:
    assert (plan.route is Route.SHIM) is (plan.flash_attn is not None)
    return plan.flash_attn.version if plan.flash_attn else None


def test_a_t4_gets_the_turing_kernels_of_109_behind_the_2x_functions(plan: Callable[..., Plan]) -> None:
    chosen = plan(T4)
    release = flash_attn.release("1.0.9")
    assert release
    assert version_of(chosen) == "2.8.3+turing109"
    assert chosen.flash_attn
    assert (chosen.flash_attn.archs, chosen.flash_attn.sha256, chosen.flash_attn.filename) == (
        ("sm_75",),
        release.sha256,
        release.sdist,
    )
    assert (chosen.toolkit, chosen.cxx_standard) == ("12.8", 17)
    assert "cuda-nvcc" in chosen.conda_specs
    assert 0 < (chosen.estimates.build_cpu_seconds or 0) < 1800
    assert "einops" in chosen.requirements


def test_a_v100_gets_pytorchs_kernels_and_nothing_is_compiled(plan: Callable[..., Plan]) -> None:
    chosen = plan(V100)
    assert version_of(chosen) == "2.8.3+aten"
    assert chosen.flash_attn
    assert (chosen.flash_attn.archs, chosen.flash_attn.sha256, chosen.toolkit) == ((), None, None)
    assert chosen.estimates.build_cpu_seconds is None
    assert not [spec for spec in chosen.conda_specs if "nvcc" in spec]


def test_unsloth_itself_stays_on_xformers_and_the_plan_says_so(plan: Callable[..., Plan]) -> None:
    """unsloth 2026.10.9 models/_utils.py looks for flash_attn only where device 0 is 8.0 or newer."""
    for box in (T4, V100):
        assert plan(box).attention == "xformers"
        assert any("flash_attention_2" in note for note in plan(box).notes)
        assert plan(box, only_flash_attn=True).attention == "adapter"


@pytest.mark.parametrize(
    ("box", "build", "version"),
    [
        (T4, BuildChoice.NEVER, "2.8.3+aten"),
        (T4, BuildChoice.ALWAYS, "2.8.3+turing109"),
        (machine("Tesla T4=7.5", "560.94", wsl="2"), BuildChoice.AUTO, "2.8.3+aten"),
        (machine("Tesla T4=7.5", "560.94", wsl="2"), BuildChoice.ALWAYS, "2.8.3+turing109"),
        (machine("Tesla T4=7.5,Tesla V100=7.0", "550.54.15"), BuildChoice.AUTO, "2.8.3+aten"),
        (machine("Tesla T4=7.5", "550.54.15", pythons="3.12", gcc="12.2", dead="conda-channel"), BuildChoice.AUTO, "2.8.3+aten"),
        (VENV, BuildChoice.AUTO, "2.8.3+turing109"),
        (machine("Tesla T4=7.5", "580.65.06", pythons="3.12", dead="conda-channel"), BuildChoice.AUTO, "2.8.3+aten"),
    ],
)
def test_turing_kernels_where_something_compiles_and_may(
    plan: Callable[..., Plan], box: Machine, build: BuildChoice, version: str
) -> None:
    assert version_of(plan(box, build=build)) == version


def test_without_channels_the_cuda_13_compiler_of_the_package_index_builds_the_turing_kernels(plan: Callable[..., Plan]) -> None:
    chosen = plan(VENV)
    assert (chosen.backend, chosen.torch, chosen.toolkit) == ("venv", "2.13.0", "13.0")
    assert any("its own operators do not load" in note for note in chosen.notes)


def test_beside_a_newer_gpu_the_adapter_comes_only_when_asked_for(plan: Callable[..., Plan]) -> None:
    """unsloth 2026.10.9 would take it on the 4090, and Gemma 2 calls softcap; without flash_attn it has a slow path that works."""
    default = plan(MIXED)
    assert (default.route, default.attention) == (Route.NONE, "xformers")
    assert any("--flash-attn 2.8.3" in note for note in default.notes)
    asked = plan(MIXED, flash_attn="2.8.3")
    assert version_of(asked) == "2.8.3+turing109"
    assert asked.flash_attn
    assert asked.flash_attn.archs == ("sm_75",)
    assert any("Gemma 2" in note for note in asked.notes)


def test_the_version_can_be_pinned_by_base_or_with_its_label(plan: Callable[..., Plan]) -> None:
    assert version_of(plan(T4, flash_attn="2.8.3+aten")) == "2.8.3+aten"
    assert version_of(plan(T4, flash_attn="2.8.1")) == "2.8.1+turing109"
    assert version_of(plan(V100, torch="2.8")) == "2.8.1+aten"


@pytest.mark.parametrize("name", ["turing", "volta"])
def test_stacks_of_one_torch_have_one_adapter_whatever_the_c_library(catalog: Catalog, name: str) -> None:
    """Else `--torch 2.6 --flash-attn 2.8.3` would be planned on glibc 2.17 and refused on a newer one."""
    recipe = next(recipe for recipe in catalog.recipes if recipe.name == name)
    bases: dict[str, set[str]] = {}
    for stack in recipe.stacks:
        bases.setdefault(stack.torch, set()).update(version.partition("+")[0] for version in stack.flash_attn)
    assert all(len(found) <= 1 for found in bases.values()), bases


def test_volta_has_no_turing_kernels_and_no_build(plan: Callable[..., Plan], catalog: Catalog) -> None:
    for request in (Request(flash_attn="2.8.3+turing109"), Request(build=BuildChoice.ALWAYS)):
        with pytest.raises(NoRoute) as caught:
            make_plan(V100, request, catalog)
    assert any("provision build --source" in hint for hint in caught.value.hints)


def test_kernels_of_2x_cannot_be_chosen_for_the_adapter(catalog: Catalog) -> None:
    with pytest.raises(NoRoute):
        make_plan(T4, Request(kernels=KernelSelection("custom", (128,), ("fp16",))), catalog)


def _is_accepted(xformers: str, version: str) -> bool:
    """Whether xformers accepts both the base, which is what it reads, and the whole version as `packaging` orders it."""
    release = packages.xformers_release(xformers)
    assert release
    if release.compare == "pep440" and Version(version) > Version(release.flash_attn_max or "99"):
        return False
    return release.accepts_flash_attn(version.partition("+")[0])


@pytest.mark.parametrize("stack", STACKS, ids=lambda stack: f"{stack.torch}-{stack.cuda}")
def test_the_adapters_version_lies_in_the_range_of_the_xformers_beside_it(stack: Stack, catalog: Catalog) -> None:
    assert stack.flash_attn
    for version in stack.flash_attn:
        assert adapters.adapter(catalog, version)
        assert stack.xformers is None or _is_accepted(stack.xformers, version)


@pytest.mark.parametrize(
    ("torch", "turing", "volta"), [("2.7", "2.7.2+turing109", "2.7.2+aten"), ("2.7.0", "2.7.2+turing109", "2.7.2+aten")]
)
def test_beside_an_xformers_that_parses_three_numbers_the_adapter_has_a_base_in_its_range(
    plan: Callable[..., Plan], torch: str, turing: str, volta: str
) -> None:
    """xformers 0.0.30 and 0.0.31.post1, ops/fmha/flash.py: ``int(s) for s in flash_attn.__version__.split(".")[:3]``, 2.7.4 and 2.8.0 at most."""
    assert (version_of(plan(T4, torch=torch)), version_of(plan(V100, torch=torch))) == (turing, volta)


@pytest.mark.parametrize("xformers", XFORMERS)
def test_for_any_xformers_a_base_is_found_or_none_is_claimed(xformers: str, catalog: Catalog) -> None:
    for version in adapters.versions(catalog, ("aten",), xformers):
        assert _is_accepted(xformers, version)


def test_each_base_is_the_number_of_a_real_release() -> None:
    known = {".".join(map(str, Version(release.version).release)) for release in flash_attn.releases()}
    assert known.issuperset(adapters.BASES)
