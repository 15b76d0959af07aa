"""What holds for every plausible machine: no crash, only real wheels that fit, driver floors, the same plan twice, no worse for better.

A third of the machines have a wheelhouse of their own.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from packaging.version import Version

from provisioner.capability import ComputeCapability
from provisioner.errors import NoRoute, SourceUnreachable
from provisioner.knowledge import archs as architectures
from provisioner.knowledge import drivers, packages, torch_builds
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import Catalog, load_catalog
from provisioner.planning.kernels import FULL, UNSLOTH, lacking
from provisioner.planning.numbers import minor, numbers
from provisioner.planning.plan import make_plan
from provisioner.planning.situation import is_data_centre
from provisioner.planning.values import KernelSelection, Plan, Request, Route, Trust
from tests.planning.machines import random_machine, random_request
from tests.planning.own_wheels import build_key, store

SAMPLE = 5_000
ALL = 100_000


TORCHES = ("2.13.0+cu130", "2.10.0+cu128", "2.9.1+cu128", "2.14.1+cu130")
SELECTIONS = (UNSLOTH, FULL, KernelSelection("custom", (128,), ("bf16",), UNSLOTH.features))
ARCHS = (("sm_80",), ("sm_90",), ("sm_80", "sm_90", "sm_100", "sm_120"))


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Catalog, ...]:
    """The catalog as it is (twice), and with a wheelhouse in which each sort of wheel lies."""
    root: Path = tmp_path_factory.mktemp("wheelhouse")
    for torch, kernels, archs, python in itertools.product(TORCHES, SELECTIONS, ARCHS, ("3.11", "3.12")):
        store(root, build_key(torch, python=python, archs=archs, kernels=kernels))
    return (load_catalog(), load_catalog(), load_catalog(wheelhouse=root))


def plan_or_none(machine: Machine, request: Request, catalog: Catalog) -> Plan | None:
    """Return the plan, None where it is refused; any other error fails the test."""
    try:
        return make_plan(machine, request, catalog)
    except (NoRoute, SourceUnreachable) as error:
        refusal = error
    assert refusal.what
    assert refusal.hints or refusal.why, refusal.what
    return None


def test_a_sample_of_plausible_machines(catalogs: tuple[Catalog, ...]) -> None:
    check_many(catalogs, SAMPLE, seed=20261124)


@pytest.mark.slow
def test_100_000_plausible_machines(catalogs: tuple[Catalog, ...]) -> None:
    check_many(catalogs, ALL, seed=1)


def check_many(catalogs: tuple[Catalog, ...], count: int, seed: int) -> None:
    chance = random.Random(seed)
    planned = 0
    for number in range(count):
        catalog = catalogs[number % len(catalogs)]
        machine, request = random_machine(chance), random_request(chance)
        plan = plan_or_none(machine, request, catalog)
        if plan is not None:
            planned += 1
            check_plan(machine, request, plan, catalog)
        if chance.random() < 0.2:
            check_monotonic(machine, request, plan, catalog, chance)
    assert planned > count / 3


def check_plan(machine: Machine, request: Request, plan: Plan, catalog: Catalog) -> None:
    context = (machine, request, plan.candidates[0])
    assert plan.candidates[0].code == "chosen", context
    assert make_plan(machine, request, catalog) == plan, context
    check_versions(request, plan)
    check_torch(machine, plan)
    check_unsloth(plan)
    check_driver(machine, plan)
    check_sources(machine, request, plan)
    if plan.route is Route.WHEEL and plan.flash_attn and plan.flash_attn.trust is Trust.WHEELHOUSE:
        check_own_wheel(machine, request, plan, catalog)
    elif plan.route is Route.WHEEL:
        check_wheel(machine, request, plan, catalog)
    if plan.route is Route.SOURCE:
        check_source(machine, plan)
    if plan.route is Route.SHIM:
        check_adapter(machine, request, plan)
    if plan.xformers and plan.flash_attn:
        check_xformers(plan)


def check_versions(request: Request, plan: Plan) -> None:
    assert request.python in (None, plan.python)
    assert request.cuda in (None, plan.cuda)
    for wish, version in ((request.torch, plan.torch), (request.flash_attn, plan.flash_attn and plan.flash_attn.version)):
        assert wish is None or (version is not None and numbers(version)[: len(numbers(wish))] == numbers(wish))


def check_torch(machine: Machine, plan: Plan) -> None:
    processor = machine.platform.machine
    if plan.cuda is None or machine.platform.jetson:
        return
    builds = list(torch_builds.find(plan.torch, cuda=plan.cuda, machine=processor or "x86_64"))
    assert builds, plan.torch
    build = next(build for build in builds if build.index == plan.torch_index)
    assert plan.python in build.pythons
    assert machine.platform.glibc is None or numbers(machine.platform.glibc) >= numbers(build.glibc)
    triton = packages.triton_release(plan.triton or "")
    for gpu in machine.gpus:
        assert gpu.capability is None or build.runs_on(gpu.capability)
        if gpu.capability is not None and triton is not None and any(text.startswith("unsloth") for text in plan.requirements):
            assert triton.assembles_for(gpu.capability) is not False, (plan.triton, gpu)


def check_unsloth(plan: Plan) -> None:
    """Where Unsloth goes in, its own bounds and those of what it requires are kept."""
    if "unsloth>=2026.10" in plan.requirements:
        newest = packages.unsloth()[0]
        assert newest.accepts("torch", plan.torch)
        assert newest.accepts_python(plan.python)


def check_driver(machine: Machine, plan: Plan) -> None:
    driver, cuda = machine.driver.version, plan.cuda
    if driver is None and machine.driver.cuda and cuda and machine.gpus and not machine.platform.jetson:
        forward = any("forward-compatibility" in note for note in plan.notes) and all(
            is_data_centre(gpu.name) for gpu in machine.gpus
        )
        assert forward or numbers(cuda)[0] <= numbers(machine.driver.cuda)[0]
    if driver is None or cuda is None or machine.platform.jetson or not machine.gpus:
        return
    windows = machine.platform.wsl == "2"
    newest = max((gpu.capability for gpu in machine.gpus if gpu.capability), default=None)
    if newest is not None and newest >= ComputeCapability(8, 9):
        assert numbers(driver)[0] >= (570 if newest.major >= 10 else 520), (newest, driver)
    if not drivers.supports(driver, cuda, windows=windows):
        assert all(is_data_centre(gpu.name) for gpu in machine.gpus), (driver, cuda)
        assert drivers.runs_forward_compatible(driver, cuda)
        assert any("forward-compatibility" in note for note in plan.notes)


def check_sources(machine: Machine, request: Request, plan: Plan) -> None:
    if request.offline:
        return
    needed = {"package-index"}
    needed |= {"torch-index"} if plan.torch_index else set()
    needed |= {"conda-channel"} if plan.backend == "conda" else set()
    fetched = plan.route is Route.WHEEL and plan.flash_attn and plan.flash_attn.trust is not Trust.WHEELHOUSE
    needed |= {"releases"} if fetched else set()
    for name in needed:
        assert machine.answers(name) is not False, (name, plan.route)


def check_wheel(machine: Machine, request: Request, plan: Plan, catalog: Catalog) -> None:
    chosen = plan.flash_attn
    assert chosen is not None
    tag = "cp" + plan.python.replace(".", "")
    found = catalog.wheel_index.find(minor(plan.torch), tag, f"linux_{machine.platform.machine}")
    wheel = next(wheel for wheel in found if wheel.url == chosen.url)
    assert wheel.filename == chosen.filename
    assert wheel.sha256 == chosen.sha256
    stated = numbers(wheel.cuda)[:1] if wheel.trust == "official" else numbers(wheel.cuda)
    assert numbers(plan.cuda or "")[: len(stated)] == stated
    assert request.allow_community or chosen.trust is not Trust.COMMUNITY
    assert not request.offline or chosen.sha256
    built = [ComputeCapability.parse(arch) for arch in chosen.archs]
    for gpu in machine.gpus:
        assert gpu.capability is None or any(gpu.capability.runs_binary_of(arch) for arch in built)
    assert machine.platform.glibc is None or wheel.glibc is None or numbers(machine.platform.glibc) >= numbers(wheel.glibc)
    build = next(
        b
        for b in torch_builds.find(plan.torch, cuda=plan.cuda, machine=machine.platform.machine or "")
        if b.index == plan.torch_index
    )
    assert wheel.abi_real in (None, build.cxx11_abi)
    assert wheel.abi in (None, build.cxx11_abi)
    assert request.kernels is None


def check_own_wheel(machine: Machine, request: Request, plan: Plan, catalog: Catalog) -> None:
    chosen = plan.flash_attn
    assert chosen is not None
    wheel = next(wheel for wheel in catalog.own if wheel.url == chosen.url)
    assert Path(wheel.url.removeprefix("file://").replace("%2B", "+")).is_file()
    assert (wheel.sha256, wheel.kernels, wheel.version) == (chosen.sha256, chosen.kernels, chosen.version)
    assert (wheel.torch, wheel.python) == (minor(plan.torch), "cp" + plan.python.replace(".", ""))
    assert ".".join(map(str, wheel.cuda)) == plan.cuda
    assert wheel.kernels is not None
    assert lacking(wheel.kernels, request.kernels or UNSLOTH) == ()
    assert machine.platform.glibc is None or wheel.glibc is None or numbers(machine.platform.glibc) >= wheel.glibc
    for gpu in machine.gpus:
        assert gpu.capability is None or any(gpu.capability.runs_binary_of(arch) for arch in wheel.archs)


def check_adapter(machine: Machine, request: Request, plan: Plan) -> None:
    """Its kernels suit the GPUs, nothing is compiled for others, and Unsloth is not led onto it."""
    chosen = plan.flash_attn
    assert chosen is not None
    turing = chosen.version.endswith("+turing109")
    capabilities = {str(gpu.capability) for gpu in machine.gpus if gpu.capability}
    assert (chosen.archs, bool(chosen.sha256), plan.toolkit is not None) == (("sm_75",) if turing else (), turing, turing)
    assert not turing or "7.5" in capabilities
    asked = request.flash_attn is not None or request.only_flash_attn
    assert asked or all(float(capability) < 8 for capability in capabilities)
    assert plan.attention != "flash-attn"
    release = packages.xformers_release(plan.xformers or "")
    if release is not None and release.compare == "pep440":
        assert Version(release.flash_attn_min) <= Version(chosen.version) <= Version(release.flash_attn_max or "99")


def check_source(machine: Machine, plan: Plan) -> None:
    chosen = plan.flash_attn
    assert chosen is not None
    assert chosen.kernels is not None
    assert plan.toolkit is not None
    assert plan.cuda is not None
    assert numbers(plan.toolkit)[:1] == numbers(plan.cuda)[:1]
    built = [ComputeCapability.parse(arch) for arch in chosen.archs]
    for gpu in machine.gpus:
        assert gpu.capability is None or any(gpu.capability.runs_binary_of(arch) for arch in built)


def check_xformers(plan: Plan) -> None:
    release = packages.xformers_release(plan.xformers or "")
    assert release is not None
    assert plan.flash_attn is not None
    assert release.fits_torch(plan.torch)
    falls_back = numbers(release.xformers) < (0, 0, 30)
    switched_off = "XFORMERS_IGNORE_FLASH_VERSION_CHECK" in plan.activation
    assert release.accepts_flash_attn(plan.flash_attn.version) or falls_back or switched_off


def check_monotonic(machine: Machine, request: Request, plan: Plan | None, catalog: Catalog, chance: random.Random) -> None:
    """A newer driver, as long as it sees the GPUs, or a newer C library gives a plan that was not there before, or one of the same or a better rank."""
    windows = machine.platform.wsl == "2"
    better = machine
    if machine.driver.version and not machine.platform.jetson and chance.random() < 0.7:
        lasts = [
            found.last_branch
            for gpu in machine.gpus
            if gpu.capability and (found := architectures.arch(gpu.capability)) and found.last_branch
        ]
        newer = "999.99" if windows else f"{min([999, *lasts])}.99.99"  # a later branch than its last does not see a GPU
        better = replace(better, driver=replace(better.driver, version=newer))
    if machine.platform.glibc and chance.random() < 0.5:
        better = replace(better, platform=replace(better.platform, glibc="2.99"))
    improved = plan_or_none(better, request, catalog)
    if plan is None:
        return
    assert improved is not None, (machine, request)
    if improved.candidates[0].id != plan.candidates[0].id:
        before = {candidate.id: candidate.rank for candidate in improved.candidates if candidate.accepted}
        trimmed = "unsloth>=2026.10" not in plan.requirements
        assert trimmed or (before.get(plan.candidates[0].id) or 0) > 1, (plan.candidates[0], improved.candidates[0])
