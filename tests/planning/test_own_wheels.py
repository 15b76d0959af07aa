"""What was compiled before is not compiled again: wheels of the own wheelhouse are candidates where they hold what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest

from provisioner.building.key import BuildKey
from provisioner.building.wheelhouse import Entry, Wheelhouse
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import load_catalog
from provisioner.planning.kernels import FULL, UNSLOTH
from provisioner.planning.own_wheels import read_wheelhouse
from provisioner.planning.plan import make_plan
from provisioner.planning.values import BuildChoice, KernelSelection, Plan, Request, Route, Trust
from tests.planning.machines import machine
from tests.planning.own_wheels import build_key, store

H100 = machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36")
WALLED = machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36", pythons="3.12", gcc="12.2", dead="releases conda-channel")
D128 = KernelSelection("custom", (128,), ("bf16",), UNSLOTH.features)


@pytest.fixture
def house(tmp_path: Path) -> Callable[..., Entry]:
    def put(**stated: object) -> Entry:
        return store(tmp_path, build_key(**stated))  # type: ignore[arg-type]

    return put


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    def make(box: Machine, **request: object) -> Plan:
        return make_plan(box, Request(**request), load_catalog(wheelhouse=tmp_path))  # type: ignore[arg-type]

    return make


def codes(plan: Plan) -> set[str]:
    found = {candidate.code for candidate in plan.candidates if "@wheelhouse" in candidate.id}
    assert found
    return found


def test_a_wheel_that_was_built_before_is_taken_instead_of_building(
    house: Callable[..., Entry], plan: Callable[..., Plan]
) -> None:
    assert plan(WALLED).route is Route.SOURCE
    stored = house()
    chosen = plan(WALLED)
    assert (chosen.route, chosen.torch, chosen.toolkit) == (Route.WHEEL, "2.13.0", None)
    assert chosen.flash_attn
    assert (chosen.flash_attn.trust, chosen.flash_attn.sha256) == (Trust.WHEELHOUSE, stored.sha256)
    assert unquote((chosen.flash_attn.url or "").removeprefix("file://")) == str(stored.path)
    assert chosen.flash_attn.filename == stored.path.name
    assert chosen.flash_attn.kernels
    assert chosen.flash_attn.kernels.head_dims == UNSLOTH.head_dims
    assert chosen.estimates.build_cpu_seconds is None


def test_a_wheel_with_fewer_kernels_than_the_plan_wants_is_not_taken(
    house: Callable[..., Entry], plan: Callable[..., Plan]
) -> None:
    house(kernels=D128)
    assert plan(WALLED).route is Route.SOURCE
    assert codes(plan(WALLED)) == {"kernels-missing"}
    assert plan(WALLED, kernels=D128).route is Route.WHEEL


def test_a_wheel_with_more_kernels_answers_a_choice_of_fewer(house: Callable[..., Entry], plan: Callable[..., Plan]) -> None:
    house()
    assert plan(H100, kernels=D128).route is Route.WHEEL
    assert plan(H100, kernels=FULL).route is Route.SOURCE


@pytest.mark.parametrize(
    ("stated", "code"),
    [
        ({"archs": ("sm_80",)}, "wheel-lacks-arch"),
        ({"archs": ("compute_90",)}, "wheel-lacks-arch"),
        ({"glibc": "2.39"}, "glibc-too-old"),
    ],
)
def test_a_wheel_for_another_gpu_or_a_newer_system_is_not_taken(
    house: Callable[..., Entry], plan: Callable[..., Plan], stated: dict[str, object], code: str
) -> None:
    house(**stated)
    assert plan(WALLED).route is Route.SOURCE
    assert codes(plan(WALLED)) == {code}


@pytest.mark.parametrize("stated", [{"torch": "2.14.0+cu132"}, {"python": "3.11"}, {"version": "2.8.3"}])
def test_a_wheel_for_another_torch_python_or_version_is_no_candidate(
    house: Callable[..., Entry], plan: Callable[..., Plan], stated: dict[str, object]
) -> None:
    house(**stated)
    assert plan(WALLED, python="3.12").route is Route.SOURCE


def test_the_recipes_order_of_torches_stays(house: Callable[..., Entry], plan: Callable[..., Plan]) -> None:
    before = plan(H100)
    house()
    assert plan(H100).flash_attn == before.flash_attn


def test_build_compiles_all_the_same_and_no_build_takes_what_is_there(
    house: Callable[..., Entry], plan: Callable[..., Plan]
) -> None:
    house()
    assert plan(WALLED, build=BuildChoice.ALWAYS).route is Route.SOURCE
    assert plan(WALLED, build=BuildChoice.NEVER).route is Route.WHEEL


def test_two_builds_of_one_release_are_told_apart(house: Callable[..., Entry], plan: Callable[..., Plan]) -> None:
    house(kernels=D128)
    house()
    chosen = plan(WALLED)
    ids = [candidate.id for candidate in chosen.candidates]
    assert len(ids) == len(set(ids))
    assert codes(chosen) == {"chosen", "kernels-missing"}


def test_what_is_damaged_foreign_or_not_there_is_left_out(tmp_path: Path, house: Callable[..., Entry]) -> None:
    assert read_wheelhouse(tmp_path / "nowhere") == ()
    house()
    foreign = tmp_path / "other-1.0-py3-none-any.whl"
    foreign.write_bytes(b"wheel")
    Wheelhouse(tmp_path).store("ab" * 32, foreign, '{"schema": 1, "key": "ab", "inputs": {"torch": "2.13.0"}}')
    Wheelhouse(tmp_path).store("cd" * 32, foreign, "no JSON")
    assert [wheel.version for wheel in read_wheelhouse(tmp_path)] == ["2.8.3.post2"]


def test_a_folder_that_others_may_only_read_will_do(tmp_path: Path) -> None:
    root = tmp_path / "shared"
    key: BuildKey = build_key()
    store(root, key)
    places = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    try:
        assert len(read_wheelhouse(root)) == 1
    finally:
        for place in places:
            place.chmod(0o755)
