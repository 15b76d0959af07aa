"""A lock is for one kind of machine, and creating from it on another is refused before anything is fetched."""

from __future__ import annotations

import pytest

from provisioner.environments.locked import check_for
from provisioner.errors import NoRoute
from provisioner.locking.values import Lock
from provisioner.machine.facts import Driver, Gpu, Machine, Platform

LOCK = Lock(
    "linux-64", (), metadata={"provision-gpu-classes": "sm_90", "provision-driver-floor": "580.65.06", "provision-glibc": "2.28"}
)
H100 = Machine(platform=Platform(machine="x86_64", glibc="2.35"), gpus=(Gpu("NVIDIA H100", "9.0"),), driver=Driver("580.95.05"))


def test_a_machine_of_the_kind_and_one_of_which_nothing_is_known_are_served() -> None:
    check_for(LOCK, H100)
    check_for(LOCK, Machine(platform=Platform(machine="x86_64")))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"platform": Platform(machine="aarch64")}, "the lock is for linux-64"),
        ({"gpus": (Gpu("Tesla T4", "7.5"),)}, "the lock is for sm_90; here is sm_75"),
        ({"driver": Driver("525.60.13")}, "driver 525.60.13 is older"),
        ({"platform": Platform(machine="x86_64", glibc="2.17")}, "glibc 2.17 is older"),
    ],
)
def test_another_machine_is_refused_with_what_differs(facts: dict[str, object], said: str) -> None:
    values = {name: getattr(H100, name) for name in ("platform", "gpus", "driver")} | facts
    with pytest.raises(NoRoute, match=said) as caught:
        check_for(LOCK, Machine(**values))
    assert (caught.value.code, caught.value.exit_code) == ("machine-drift", 3)
