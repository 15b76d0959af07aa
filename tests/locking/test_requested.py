from __future__ import annotations

import json
import platform
import shlex
from dataclasses import replace

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner import codec
from provisioner.cli.selection import Selection, selecting
from provisioner.locking.conda_part import channel_url, default_channels
from provisioner.locking.requested import REQUEST, asked_again, recorded, requested, words_again
from provisioner.locking.values import Lock, LockedPackage
from provisioner.planning.values import BuildChoice, KernelSelection, Plan, Request, Route

versions = st.none() | st.sampled_from(["3.12", "2.9.1", "12.8"])
requests = st.builds(
    Request,
    python=versions,
    torch=versions,
    cuda=versions,
    flash_attn=versions,
    recipe=st.none() | st.just("ampere"),
    backend=st.none() | st.sampled_from(["conda", "venv"]),
    build=st.sampled_from(BuildChoice),
    kernels=st.none() | st.just(KernelSelection("custom", (128,), ("bf16",), ("backward",))),
    allow_community=st.booleans(),
    only_flash_attn=st.booleans(),
    packages=st.lists(st.sampled_from(["numpy<2.4", "rich", "trl>=1"]), unique=True).map(tuple),
)


def lock(request: Request) -> Lock:
    text = recorded(request)
    return Lock("linux-64", (), metadata={REQUEST: text} if text else {})


@given(requests)
def test_what_was_asked_for_reads_back_from_the_lock(request: Request) -> None:
    assert requested(lock(request)) == request
    assert asked_again(lock(request), Request()) == request


def test_an_open_request_leaves_no_trace_and_the_network_is_no_wish() -> None:
    assert recorded(Request()) is None
    assert recorded(Request(offline=True)) is None
    assert recorded(Request(torch="2.9.1", packages=("rich",))) == '{"packages":["rich"],"torch":"2.9.1"}'


def test_what_is_stated_now_goes_before_and_a_pin_gives_way_to_its_packages_move() -> None:
    before = lock(Request(torch="2.9.1", python="3.12", packages=("rich",)))
    assert asked_again(before, Request(python="3.13", packages=("trl>=1",))) == Request(
        torch="2.9.1", python="3.13", packages=("rich", "trl>=1")
    )
    assert asked_again(before, Request(), ["torch"]).torch is None
    assert asked_again(before, Request(torch="2.10.0"), ["torch"]).torch == "2.10.0"
    assert asked_again(before, Request(), ["trl"]) == requested(before)


@pytest.mark.integration
@pytest.mark.parametrize(
    "request_",
    [
        Request(),
        Request(python="3.12", torch="2.9.1", cuda="12.8", flash_attn="2.8.3", recipe="ampere", backend="venv"),
        Request(build=BuildChoice.ALWAYS, kernels=KernelSelection("custom", (64, 128), ("bf16",), ("backward", "varlen"))),
        Request(build=BuildChoice.NEVER, allow_community=True, packages=("numpy<2.4", "rich")),
        Request(only_flash_attn=True, kernels=KernelSelection("full")),
    ],
    ids=str,
)
def test_the_line_that_locks_again_asks_for_the_same_on_the_same_machine(request_: Request) -> None:
    """As it is typed: whichever machine it is typed on, the lock stays one for its own GPUs."""
    facts = {"provision-gpu-classes": "sm_80,sm_90", "provision-driver-floor": "580.65.06", "provision-glibc": "2.31"}
    made = Lock("linux-64", (), metadata={**lock(request_).metadata, **facts})
    seen: list[Selection] = []

    @click.command()
    @selecting
    def typed(selection: Selection) -> None:
        seen.append(selection)

    typed.main(shlex.split(shlex.join(words_again(made)[2:])), standalone_mode=False)
    (selection,) = seen
    assert selection.request == request_
    assert [gpu.compute_capability for gpu in selection.machine.gpus] == ["8.0", "9.0"]
    assert (selection.machine.driver.version, selection.machine.platform.glibc) == ("580.65.06", "2.31")


def test_a_lock_for_no_gpu_is_locked_again_for_none() -> None:
    assert words_again(Lock("linux-64", ())) == ["provision", "lock", "--recipe", "cpu"]


def test_the_line_states_another_platform_and_other_channels_than_those_taken_by_themselves() -> None:
    foreign = "linux-64" if platform.machine() == "aarch64" else "linux-aarch64"
    package = LockedPackage("python", "3.12.7", "conda", foreign, "https://conda.example/mine/python-3.12.7-0.conda", "a" * 64)
    made = Lock(foreign, (package,), ("https://conda.example/mine",))
    line = ["provision", "lock", "--platform", foreign, "--channel", "https://conda.example/mine", "--recipe", "cpu"]
    assert words_again(made) == line
    default = replace(made, channels=tuple(channel_url(name) for name in default_channels()))
    assert words_again(default) == [*line[:4], "--recipe", "cpu"]


def test_the_line_states_the_python_and_the_backend_which_else_the_host_decides() -> None:
    plan = Plan("cpu", Route.NONE, "3.11", "2.8.0", None, None, backend="conda")
    made = Lock("linux-64", (), metadata={"provision-plan": json.dumps(codec.to_builtins(plan))})
    words = words_again(made)
    assert (words[words.index("--python") + 1], words[words.index("--backend") + 1]) == ("3.11", "conda")
