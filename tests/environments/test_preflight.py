"""What a plan needs of the machine is asked by what it compiles, not by its route: the adapter comes with and without a build."""

from __future__ import annotations

from dataclasses import replace

import pytest

from provisioner.environments import toolkit
from provisioner.environments.create import check_machine
from provisioner.errors import BuildFailed
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import BuildChoice, Plan, Request, Route
from tests.planning.machines import machine

T4 = machine("Tesla T4=7.5", "580.65.06", pythons="3.12", gcc="12.2", dead="conda-channel")
BARE = replace(T4, compilers=())
NO_HEADERS = machine("Tesla T4=7.5", "580.65.06", pythons="3.12", headers=False, gcc="12.2", dead="conda-channel")


def plan(box: Machine, build: BuildChoice = BuildChoice.AUTO) -> Plan:
    made = make_plan(box, Request(build=build), load_catalog())
    assert (made.route, made.backend) == (Route.SHIM, "venv")
    return made


@pytest.mark.parametrize(("box", "code"), [(BARE, "compiler-missing"), (NO_HEADERS, "python-headers-missing")])
def test_turing_kernels_are_refused_before_any_download_where_they_cannot_be_compiled(box: Machine, code: str) -> None:
    """As with a lock of another machine: planning itself would have taken PyTorch's kernels there."""
    turing = plan(T4)
    assert turing.flash_attn
    assert (turing.flash_attn.version, turing.compiles) == ("2.8.3+turing109", True)
    with pytest.raises(BuildFailed) as caught:
        check_machine(turing, box)
    assert (caught.value.code, caught.value.exit_code) == (code, 6)


@pytest.mark.parametrize("box", [BARE, NO_HEADERS])
def test_such_a_machine_is_planned_with_pytorchs_kernels_and_passes(box: Machine) -> None:
    aten = plan(box)
    assert aten.flash_attn
    assert (aten.flash_attn.version, aten.compiles) == ("2.8.3+aten", False)
    check_machine(aten, box)


def test_only_the_adapter_that_is_compiled_asks_the_index_for_a_cuda_compiler() -> None:
    assert any("nvcc" in line for line in toolkit.requirements(plan(T4), T4))
    assert toolkit.requirements(plan(T4, BuildChoice.NEVER), T4) == ()
