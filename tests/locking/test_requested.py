from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from provisioner.locking.requested import REQUEST, asked_again, recorded, requested
from provisioner.locking.values import Lock
from provisioner.planning.values import BuildChoice, KernelSelection, Request

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
