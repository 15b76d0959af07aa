"""The traps that users fall into, each held by a rule; the source of each is named at its test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from provisioner.capability import ComputeCapability
from provisioner.errors import NoRoute, UsageError
from provisioner.knowledge import packages
from provisioner.machine.facts import Driver, Fault, Gpu, Machine, PythonInstall, Software, Source
from provisioner.planning.catalog import Catalog
from provisioner.planning.driver_rules import compiles_ptx
from provisioner.planning.plan import make_plan
from provisioner.planning.refusals import BROKEN
from provisioner.planning.rules import torch_rule
from provisioner.planning.situation import situation
from provisioner.planning.survey import survey
from provisioner.planning.values import BuildChoice, Candidate, KernelSelection, Plan, Request, Route
from tests.planning.machines import machine

T4 = machine("Tesla T4=7.5", "550.54.15", "2.35")
RTX4090 = machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15", "2.35")
V100 = machine("Tesla V100-SXM2-32GB=7.0", "580.65.06", "2.35")


def code_of(plan: Plan, part: str) -> set[str]:
    """Return the codes of the candidates whose id contains ``part``."""
    found = {candidate.code for candidate in plan.candidates if part in candidate.id}
    assert found, part
    return found


def refused(machine: Machine, catalog: Catalog, request: Request) -> tuple[NoRoute, list[dict[str, str]]]:
    with pytest.raises(NoRoute) as caught:
        make_plan(machine, request, catalog)
    return caught.value, caught.value.details.get("candidates", [])


def test_torch_28_with_283_is_kept_from_xformers_check_or_switches_it_off(plan: Callable[..., Plan]) -> None:
    """unsloth#2763; xformers 0.0.32.post2 ops/fmha/flash.py: 2.7.1 to 2.8.2."""
    chosen = plan(RTX4090, torch="2.8.0", python="3.11", flash_attn="2.8.3")
    assert chosen.xformers == "0.0.32.post2"
    assert chosen.activation == {"XFORMERS_IGNORE_FLASH_VERSION_CHECK": "1"}


def test_a_source_build_of_283_beside_xformers_0032_is_rejected(plan: Callable[..., Plan]) -> None:
    """xformers 0.0.32.post2 ops/fmha/flash.py, read 2026-11-24."""
    assert code_of(plan(RTX4090, torch="2.8.0", flash_attn="2.8"), "source:2.8.3/torch2.8.0+cu129") == {"xformers-range"}


def test_flash_attn_1_is_never_put_beside_xformers(catalog: Catalog) -> None:
    """flash-attention#641, #1280: 1.x has no flash_attn_varlen_func, and xformers imports flash_attn."""
    error, _ = refused(RTX4090, catalog, Request(flash_attn="1.0.9"))
    assert "another API" in (error.why or "")


@pytest.mark.parametrize(("torch", "cuda"), [("2.11", "12.8"), ("2.13", "13.0"), ("2.14", "13.0"), ("2.9", "13.0")])
def test_torch_builds_without_sm_70_are_no_choice_for_a_v100(catalog: Catalog, torch: str, cuda: str) -> None:
    """pytorch RELEASE.md, RFC pytorch#172352: Volta left cu128 with 2.11 and is in no cu130 build."""
    error, candidates = refused(V100, catalog, Request(torch=torch, cuda=cuda))
    assert "torch-lacks-arch" in {candidate["code"] for candidate in candidates}
    assert any("--cuda 12" in hint or "--torch" in hint for hint in error.hints)


@pytest.mark.parametrize("torch", ["2.8", "2.9", "2.10"])
def test_torch_28_to_210_with_cuda_128_still_serve_a_v100(plan: Callable[..., Plan], torch: str) -> None:
    """pytorch RELEASE.md: sm_70 is in cu128 of 2.8 to 2.10; xformers ≥ 0.0.31 takes torch's own CUTLASS kernels."""
    chosen = plan(V100, torch=torch, cuda="12.8")
    assert (chosen.recipe, chosen.route, chosen.attention) == ("volta", Route.SHIM, "xformers")


def test_cuda_126_builds_hold_sm_70_to_this_day(plan: Callable[..., Plan]) -> None:
    """pytorch RELEASE.md."""
    assert plan(V100, torch="2.14", cuda="12.6").torch_index == "cu126"


def test_28x_wheels_labelled_abi_false_are_not_given_to_torch_26(plan: Callable[..., Plan]) -> None:
    """flash-attention#1783, #1717: built against torch 2.6+cu126, whose ABI is TRUE."""
    chosen = plan(RTX4090, torch="2.6", cuda="12.4", flash_attn="2.8.3", python="3.12")
    assert code_of(chosen, "wheel:2.8.3+cu12torch2.6cxx11abiFALSE") == {"abi-mislabelled"}
    assert code_of(chosen, "wheel:2.8.3+cu12torch2.6cxx11abiTRUE") == {"abi-mismatch"}
    assert chosen.route is Route.SOURCE
    old = plan(RTX4090, torch="2.6", cuda="12.4").flash_attn
    assert old
    assert old.version == "2.7.4.post1"


@pytest.mark.parametrize(("glibc", "fits"), [("2.31", False), ("2.32", True), ("2.35", True)])
def test_28x_wheels_need_glibc_232(plan: Callable[..., Plan], glibc: str, fits: bool) -> None:
    """flash-attention#1708, #1762, #2225: built on Ubuntu 22.04, `GLIBC_2.32 not found`."""
    chosen = plan(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15", glibc))
    assert (code_of(chosen, "wheel:2.8.3+cu12torch2.9") == {"chosen"}) is fits
    assert (code_of(chosen, "wheel:2.8.3+cu12torch2.9") == {"glibc-too-old"}) is not fits


@pytest.mark.parametrize(
    ("driver", "wsl", "fits"),
    [("535.247.01", "no", False), ("550.54.14", "no", True), ("551.61", "2", True), ("537.13", "2", False)],
)
def test_the_compressed_kernels_of_281_need_a_driver_that_knows_cuda_124(
    plan: Callable[..., Plan], driver: str, wsl: str, fits: bool
) -> None:
    """flash-attention#1749, #1750: `device kernel image is invalid` with driver 535; setup.py of 2.8.1 has -compress-mode=size, 2.8.2 has not."""
    chosen = plan(machine("NVIDIA GeForce RTX 3060=8.6", driver, "2.35", wsl=wsl), torch="2.10", build=BuildChoice.AUTO)
    assert ("chosen" in code_of(chosen, "wheel:2.8.1+cu12torch2.10")) is fits
    if not fits:
        assert code_of(chosen, "wheel:2.8.1+cu12torch2.10") == {"driver-too-old"}


def test_a_wheel_that_stands_in_two_stacks_is_found_by_a_pin_on_the_second(plan: Callable[..., Plan]) -> None:
    """flash-attention#2016: torch 2.7.1 for CUDA 12.8 on Python 3.10 with the wheel of 2.8.0.post2, which the recipe lists for 12.6."""
    chosen = plan(machine("NVIDIA GeForce RTX 5090=12.0", "580.65.06"), torch="2.7.1", cuda="12.8", python="3.10")
    assert (chosen.route, chosen.flash_attn and chosen.flash_attn.version) == (Route.WHEEL, "2.8.0.post2")


def test_a_build_beside_an_older_xformers_takes_the_newest_release_in_its_range(plan: Callable[..., Plan]) -> None:
    """xformers 0.0.30 (torch 2.7.0) takes 2.7.1 to 2.7.4: the six newest releases are all above it."""
    chosen = plan(machine("NVIDIA GeForce RTX 5090=12.0", "580.65.06"), torch="2.7.0", cuda="12.8", build=BuildChoice.ALWAYS)
    assert (chosen.route, chosen.flash_attn and chosen.flash_attn.version) == (Route.SOURCE, "2.7.4.post1")


def test_no_wheel_is_used_with_another_torch_minor(plan: Callable[..., Plan]) -> None:
    """flash-attention#931: wheels are for the torch that they were built with; the ABI broke between 2.9 and 2.10."""
    chosen = plan(RTX4090, torch="2.10")
    wheels = [candidate for candidate in chosen.candidates if candidate.route is Route.WHEEL and candidate.accepted]
    assert wheels
    assert all("torch2.10" in candidate.id and (candidate.torch or "").startswith("2.10") for candidate in wheels)


def test_a_cuda_13_torch_is_never_given_a_cuda_12_wheel(plan: Callable[..., Plan]) -> None:
    """flash-attention#2118: 2.8.3's setup.py guesses cu12 for CUDA 13, and libcudart.so.12 is missing."""
    chosen = plan(machine("NVIDIA H100=9.0", "580.65.06"), cuda="13.0")
    assert not [c for c in chosen.candidates if c.accepted and c.route is Route.WHEEL and "+cu12" in c.id]


@pytest.mark.parametrize("gpu", ["NVIDIA B200=10.0", "NVIDIA GeForce RTX 5090=12.0"])
def test_wheels_built_before_cuda_128_are_no_choice_for_blackwell(catalog: Catalog, plan: Callable[..., Plan], gpu: str) -> None:
    """flash-attention#1763, #1853: publish.yml of 2.7.4.post1 used nvcc 12.4, so sm_80 and sm_90 alone."""
    box = machine(gpu, "580.65.06")
    rest = survey(box, Request(), catalog, plan(box).candidates)
    old = [
        candidate for candidate in rest if candidate.id.startswith("wheel:2.7.4.post1+cu12") and "community" not in candidate.id
    ]
    assert old
    assert {candidate.code for candidate in old} == {"wheel-lacks-arch"}


@pytest.mark.parametrize("version", ["2.8.3.post2", "2.7.4.post1"])
def test_a_2x_release_built_for_turing_would_hold_only_stubs_and_is_refused(catalog: Catalog, version: str) -> None:
    """flash_attn 2.x kernels: `requires building with sm version sm80-sm90, but was built for < 8.0!`."""
    error, _ = refused(T4, catalog, Request(build=BuildChoice.ALWAYS, flash_attn=version))
    assert "sm_75" in (error.why or "")


def test_torch_214_is_compiled_as_cxx20_and_213_as_cxx17(plan: Callable[..., Plan]) -> None:
    """flash-attention#2863, #2879: torch 2.14's headers refuse C++17."""
    box = machine("NVIDIA H100=9.0", "580.65.06")
    assert plan(box, torch="2.14").cxx_standard == 20
    assert plan(box, torch="2.13", build=BuildChoice.ALWAYS).cxx_standard == 17


def test_python_314_has_no_official_wheel_and_is_built(plan: Callable[..., Plan]) -> None:
    """Official assets end at cp313 (asset list, 2026-05)."""
    assert plan(machine("NVIDIA H100=9.0", "580.65.06"), python="3.14").route is Route.SOURCE


def test_windows_driver_numbers_are_compared_with_the_windows_column(plan: Callable[..., Plan], catalog: Catalog) -> None:
    """CUDA release notes, table 2: CUDA 12 needs 525.60.13 on Linux and 528.33 on Windows."""
    below = machine("NVIDIA GeForce RTX 4090=8.9", "527.56", "2.35", wsl="2")
    assert plan(below).cuda == "11.8"
    assert plan(replace(below, platform=replace(below.platform, wsl="no"))).cuda == "12.8"
    assert plan(machine("NVIDIA GeForce RTX 4090=8.9", "528.33", "2.35", wsl="2")).driver_floor == "528.33"


def test_wsl_compiles_only_when_asked(plan: Callable[..., Plan]) -> None:
    """DESIGN, recipe `wsl`: WSL gets half the memory, and cicc is killed (flash-attention#1549)."""
    box = machine("NVIDIA GeForce RTX 5090=12.0", "581.29", "2.31", wsl="2")
    unasked = plan(box)
    assert (unasked.route, unasked.flash_attn, unasked.attention) == (Route.NONE, None, "xformers")
    assert any("--build" in note for note in unasked.notes)
    assert plan(box, build=BuildChoice.ALWAYS).route is Route.SOURCE


def test_behind_a_wall_without_a_compiler_unsloth_still_gets_its_environment(plan: Callable[..., Plan], catalog: Catalog) -> None:
    """DESIGN, "Sources and backends": the best plan that can be carried out, not a failure; but never against the request."""
    walled = replace(
        machine("NVIDIA GeForce RTX 4090=8.9", "535.104.05"),
        sources=(
            Source("package-index", True),
            Source("releases", False),
            Source("conda-channel", False),
            Source("torch-index", False),
        ),
        pythons=(PythonInstall("/usr/bin/python3.12", "3.12.1", headers=True),),
    )
    assert (plan(walled).route, plan(walled).attention) == (Route.NONE, "xformers")
    assert plan(replace(walled, sources=())).route is Route.WHEEL
    refused(walled, catalog, Request(only_flash_attn=True))


def test_ptx_counts_only_where_the_driver_knows_the_toolkits_cuda(catalog: Catalog) -> None:
    """CUDA Compatibility guide: minor-version compatibility excludes PTX."""
    box = machine("NVIDIA GeForce RTX 4090=8.9", "525.60.13")
    here = situation(box, Request())
    draft = next(d for d in catalog.drafts((catalog.recipes[0],), Request(), "x86_64", None) if d.torch.cuda == "12.8")
    torch = structs.replace(draft.torch, archs=(ComputeCapability(7, 0),), ptx=(ComputeCapability(8, 0),))
    only_ptx = structs.replace(draft, torch=torch)
    assert not compiles_ptx(here, "12.8")
    assert torch_rule(here, only_ptx, Request(), catalog) is not None
    assert torch_rule(replace(here, driver="570.26"), only_ptx, Request(), catalog) is None


def test_driver_470_runs_cuda_12_on_data_centre_gpus_alone(plan: Callable[..., Plan], catalog: Catalog) -> None:
    """Reports of A100 machines with 470.103.01 under torch 2.6.0+cu124; CUDA Compatibility guide: data-centre GPUs only."""
    a100 = plan(machine("NVIDIA A100-SXM4-80GB=8.0", "470.103.01", "2.35"), cuda="12.4")
    assert any("forward-compatibility" in note for note in a100.notes)
    error, _ = refused(machine("NVIDIA GeForce RTX 3090=8.6", "470.103.01", "2.35"), catalog, Request(cuda="12.4"))
    assert "525.60.13" in (error.why or "")


def test_what_runs_natively_goes_before_forward_compatibility(plan: Callable[..., Plan]) -> None:
    assert plan(machine("NVIDIA A100-SXM4-80GB=8.0", "470.103.01", "2.35")).cuda == "11.8"


def test_a_jetson_orin_takes_jetpacks_torch_and_a_gh200_the_indexs(plan: Callable[..., Plan]) -> None:
    """flash-attention#614, #1875, #2045: the aarch64 wheels of the index are built for servers (SBSA), not for Jetson."""
    orin = plan(machine("Orin (nvgpu)=8.7", "540.4.0", "2.35", processor="aarch64", jetson="36.4.3"))
    assert (orin.route, orin.python, orin.torch_index) == (Route.SOURCE, "3.10", "jetson/jp6/cu126")
    gh200 = plan(machine("NVIDIA GH200 480GB=9.0", "570.124.06", processor="aarch64"))
    assert gh200.route is Route.WHEEL
    assert gh200.flash_attn
    assert "aarch64" in (gh200.flash_attn.filename or "")
    assert gh200.xformers is None


def test_a_server_with_nvidias_container_torch_is_no_jetson(plan: Callable[..., Plan]) -> None:
    """vllm-project/vllm#16427: a GH200 with the NGC container's torch; a Jetson whose GPU nobody names is told by such a torch."""
    gh200 = replace(
        machine("NVIDIA GH200 120GB=9.0", "550.144.03", "2.39", processor="aarch64"),
        software=Software(torch="2.6.0a0+df5bbc09d1.nv24.11"),
    )
    assert plan(gh200).route is Route.WHEEL
    assert plan(gh200, build=BuildChoice.ALWAYS).route is Route.SOURCE
    unnamed = replace(machine("", None, "2.35", processor="aarch64"), software=Software(torch="2.5.0a0+872d972e41.nv24.08"))
    assert plan(unnamed).torch_index == "jetson/jp6/cu126"


def test_mig_instances_are_planned_as_their_gpu_and_said_so(plan: Callable[..., Plan]) -> None:
    box = machine("NVIDIA H200=9.0", "570.124.06")
    mig = replace(box, gpus=(Gpu("NVIDIA H200 MIG 1g.18gb", "9.0", 18_000, partition="mig"),))
    assert plan(mig).flash_attn == plan(box).flash_attn
    assert any("MIG" in note for note in plan(mig).notes)


def test_mixed_gpus_get_one_plan_that_runs_on_all_and_the_way_to_flash_attn(plan: Callable[..., Plan]) -> None:
    mixed = plan(machine("NVIDIA GeForce RTX 4090=8.9,NVIDIA GeForce RTX 2080 Ti=7.5", "550.54.15"))
    assert (mixed.recipe, mixed.route, mixed.attention) == ("turing", Route.NONE, "xformers")
    assert any("--gpu sm_89" in note and "CUDA_VISIBLE_DEVICES" in note for note in mixed.notes)


def test_cuda_visible_devices_picks_the_gpus_that_are_planned_for(plan: Callable[..., Plan]) -> None:
    mixed = machine("NVIDIA GeForce RTX 4090=8.9,NVIDIA GeForce GTX 1080=6.1", "550.54.15")
    assert plan(replace(mixed, cuda_visible_devices="0")).recipe == "ampere"


def test_third_party_wheels_need_consent(plan: Callable[..., Plan]) -> None:
    without = plan(RTX4090)
    assert "community-not-allowed" in code_of(without, "@community")
    taken = plan(RTX4090, torch="2.10", python="3.13", allow_community=True)
    assert taken.flash_attn
    assert taken.flash_attn.trust == "community"


def test_an_unhashed_wheel_ranks_below_a_hashed_one_and_is_rejected_offline(plan: Callable[..., Plan]) -> None:
    ranked = plan(RTX4090, allow_community=True)
    wheels = [candidate for candidate in ranked.candidates if candidate.accepted and candidate.route is Route.WHEEL]
    unhashed = ["sha256 not known" in candidate.reason for candidate in wheels]
    assert unhashed == sorted(unhashed)
    assert any(unhashed)
    offline = plan(RTX4090, offline=True)
    assert "hash-unknown" in {candidate.code for candidate in offline.candidates}
    assert not any("sha256 not known" in candidate.reason for candidate in offline.candidates if candidate.accepted)


def test_each_candidate_has_an_id_of_its_own(plan: Callable[..., Plan], catalog: Catalog) -> None:
    chosen = plan(RTX4090, torch="2.8")
    every: tuple[Candidate, ...] = (*chosen.candidates, *survey(RTX4090, Request(), catalog, chosen.candidates))
    ids = [candidate.id for candidate in every]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "box", [RTX4090, machine("NVIDIA GB10=12.1", "580.95.05", "2.39", processor="aarch64")], ids=["x86", "gb10"]
)
def test_a_wheel_that_explain_says_can_be_asked_for_is_accepted_then(catalog: Catalog, box: Machine) -> None:
    plan = make_plan(box, Request(), catalog)
    offered = {c.reason.partition("; ")[2] for c in survey(box, Request(), catalog, plan.candidates) if c.code == "not-in-recipe"}
    assert offered or "GB10" in str(box.gpus)
    for offer in sorted(offered):
        _, torch, _, version, *_ = offer.split()
        asked = make_plan(box, Request(torch=torch, flash_attn=version), catalog)
        wheels = [c for c in asked.candidates if c.accepted and c.route is Route.WHEEL]
        assert any(c.flash_attn == version and (c.torch or "").startswith(f"{torch}.") for c in wheels), offer


def test_conda_forge_wheels_are_not_mixed_with_pips_torch(plan: Callable[..., Plan]) -> None:
    """flash-attn feedstock 18cfb45: built against conda-forge's pytorch."""
    assert not [candidate for candidate in plan(RTX4090).candidates if "conda-forge" in candidate.id and candidate.accepted]


def test_a_v100_gets_a_bitsandbytes_that_holds_sm_70(plan: Callable[..., Plan]) -> None:
    """bitsandbytes#1481, #1715: 0.45.3 to 0.46.1 left Volta out of the CUDA 12.8 build."""
    chosen = plan(V100)
    assert "bitsandbytes>=0.47" in chosen.requirements
    assert packages.bitsandbytes_runs_on("0.47.0", chosen.cuda or "", ComputeCapability(7, 0))
    assert packages.bitsandbytes_runs_on("0.46.1", "12.8", ComputeCapability(7, 0)) is False


def test_flash_attn_is_named_by_its_file_and_never_left_to_a_resolver(plan: Callable[..., Plan]) -> None:
    """pip takes the highest local label of a mixed wheelhouse, whatever torch is there (PEP 440 orders local versions)."""
    chosen = plan(RTX4090)
    assert chosen.flash_attn
    assert (chosen.flash_attn.url or "").endswith(".whl")
    assert not [requirement for requirement in chosen.requirements if requirement.startswith("flash")]


def test_a_gpu_with_a_broken_driver_is_an_error_and_never_the_cpu_recipe(catalog: Catalog) -> None:
    for code in BROKEN:
        error, _ = refused(replace(machine(""), faults=(Fault(code, "seen"),)), catalog, Request())
        assert error.code == code
        assert error.hints


def test_no_gpu_at_all_is_the_cpu_recipe_and_says_what_unsloth_does_there(plan: Callable[..., Plan]) -> None:
    chosen = plan(replace(machine(""), faults=(Fault("no-gpu", "no NVIDIA device on the PCI bus"),)))
    assert (chosen.recipe, chosen.route, chosen.flash_attn) == ("cpu", Route.NONE, None)
    assert any("trains on the CPU" in note and "older releases refuse" in note for note in chosen.notes)


def test_an_amd_gpu_beside_an_nvidia_one_does_not_make_it_a_rocm_machine(plan: Callable[..., Plan]) -> None:
    both = replace(RTX4090, gpus=(*RTX4090.gpus, Gpu("AMD Radeon Graphics", vendor="amd")))
    assert plan(both).route is Route.WHEEL


def test_amd_alone_is_refused_with_what_works_there(catalog: Catalog) -> None:
    amd = replace(RTX4090, gpus=(Gpu("AMD Instinct MI300X", vendor="amd"),), driver=Driver())
    error, _ = refused(amd, catalog, Request())
    assert error.code == "rocm"
    assert "ROCm" in (error.why or "")


def test_kernels_asked_for_on_a_gpu_without_any_are_refused(catalog: Catalog) -> None:
    """flash-attention#1608: 2.x holds kernels from compute capability 8.0 on."""
    error, _ = refused(T4, catalog, Request(kernels=KernelSelection("custom", (128,), ("fp16",))))
    assert "sm_75" in (error.why or "")


def test_a_gpu_whose_capability_is_not_known_is_named_in_the_plan(plan: Callable[..., Plan]) -> None:
    both = replace(RTX4090, gpus=(*RTX4090.gpus, Gpu("NVIDIA L20Y")))
    assert any("NVIDIA L20Y" in note for note in plan(both).notes)


def test_an_overlay_cannot_be_asked_for_as_the_recipe(plan: Callable[..., Plan]) -> None:
    with pytest.raises(UsageError, match="laid over"):
        plan(RTX4090, recipe="wsl")
