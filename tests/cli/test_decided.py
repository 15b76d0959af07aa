"""Options beside a lock: what chooses otherwise is refused, what the lock has already may be stated."""

from __future__ import annotations

import pytest

from provisioner.cli.decided import check_decided
from provisioner.errors import UsageError
from provisioner.locking.requested import REQUEST, recorded
from provisioner.locking.values import Lock
from provisioner.planning.values import BuildChoice, FlashAttn, KernelSelection, Plan, Request, Route

PLAN = Plan("ampere", Route.WHEEL, "3.12", "2.9.1", "12.8", FlashAttn("2.8.3.post2", None, None), backend="venv")
ASKED = Request(packages=("rich",), build=BuildChoice.ALWAYS, kernels=KernelSelection("unsloth"), allow_community=True)
LOCK = Lock("linux-64", (), metadata={REQUEST: recorded(ASKED) or ""})


@pytest.mark.parametrize(
    "request_",
    [
        ASKED,
        Request(python="3.12", torch="2.9.1", cuda="12.8", flash_attn="2.8.3.post2", recipe="ampere", backend="venv"),
        Request(torch="2.9", cuda="12.8.1", flash_attn="2.8.3", python="3"),
    ],
    ids=str,
)
def test_what_the_lock_has_may_be_stated_as_the_planner_reads_it(request_: Request) -> None:
    check_decided("--lock", request_, (LOCK, PLAN))


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request(torch="2.9.0"), "--torch 2.9.0"),
        (Request(torch="2.1"), "--torch 2.1"),
        (Request(cuda="13.0", python="3.13"), "--python 3.13, --cuda 13.0"),
        (Request(flash_attn="2.8.3.post1"), "--flash-attn 2.8.3.post1"),
        (Request(recipe="cpu", backend="conda"), "--recipe cpu, --backend conda"),
        (Request(build=BuildChoice.NEVER, only_flash_attn=True), "--no-build, --only flash-attn"),
        (Request(kernels=KernelSelection("full")), "--kernels, --head-dims, --dtypes and --features"),
        (Request(packages=("rich", "wandb")), "--with wandb"),
    ],
    ids=str,
)
def test_what_chooses_otherwise_is_named(request_: Request, named: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_decided("--bundle", request_, (LOCK, PLAN))
    assert (caught.value.what, caught.value.code) == (f"--bundle decides that already: {named}", "lock-decides")


def test_a_lock_without_flash_attn_has_none_of_any_version() -> None:
    with pytest.raises(UsageError, match=r"--flash-attn 2\.8\.3"):
        check_decided(
            "--lock", Request(flash_attn="2.8.3"), (Lock("linux-64", ()), Plan("cpu", Route.NONE, "3.12", "2.9.1", None, None))
        )
