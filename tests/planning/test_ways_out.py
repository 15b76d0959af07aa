"""Each option that a refusal prints is planned when it is typed."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from provisioner.errors import NoRoute, SourceUnreachable
from provisioner.machine.facts import Machine
from provisioner.planning.catalog import Catalog, load_catalog
from provisioner.planning.plan import make_plan
from provisioner.planning.values import BuildChoice, Request
from tests.planning.machines import machine, random_machine, random_request

SAMPLE = 1_200
PINS: dict[str, None] = dict.fromkeys(("torch", "cuda", "flash_attn", "python"))


def after(request: Request, hint: str) -> Request | None:
    """Return the request as the hint would have it, None where the hint names no option."""
    if pinned := re.match(r"without --([a-z-]+) .* works: (?:--[a-z-]+ (\S+)|leave --[a-z-]+ away)$", hint):
        return replace(request, **{pinned[1].replace("-", "_"): pinned[2]})  # type: ignore[arg-type]
    if hint.startswith("without any of them"):
        return replace(request, **PINS)  # type: ignore[arg-type]
    if hint.startswith("leave --build"):
        return replace(request, build=BuildChoice.AUTO, flash_attn=None, kernels=None, only_flash_attn=False)
    options = {
        "allow compiling": replace(request, build=BuildChoice.ALWAYS),
        "accept wheels": replace(request, allow_community=True),
        "leave Unsloth out": replace(request, only_flash_attn=True),
    }
    return next((changed for begin, changed in options.items() if hint.startswith(begin)), None)


def refusal(box: Machine, request: Request, catalog: Catalog) -> NoRoute | None:
    try:
        make_plan(box, request, catalog)
    except SourceUnreachable:
        return None
    except NoRoute as error:
        return error
    return None


def test_what_a_refusal_says_to_type_is_planned() -> None:
    chance, catalog, tried = random.Random(20261127), load_catalog(), 0
    for _ in range(SAMPLE):
        box, request = random_machine(chance), random_request(chance)
        error = refusal(box, request, catalog)
        if error is None:
            continue
        assert error.hints, (box, request)
        if error.hints[0].startswith("without these versions"):
            request = replace(request, **PINS)  # type: ignore[arg-type]
        for hint in error.hints:
            changed = after(request, hint)
            if changed is not None:
                tried += 1
                make_plan(box, changed, catalog)
    assert tried > 100


def test_a_change_that_suffices_alone_is_named_alone() -> None:
    box = machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15", "2.17", pythons="3.11", gcc="12.2", dead="conda-channel")
    error = refusal(box, Request(), load_catalog())
    assert error is not None
    assert error.hints[0].startswith("use a system (or container) with a newer glibc")
    assert not any(hint.startswith("update the driver") for hint in error.hints)


def test_where_no_wish_is_to_blame_the_refusal_says_what_is() -> None:
    error = refusal(machine("NVIDIA B300=10.3", "580.95.05", "2.27"), Request(torch="2.7"), load_catalog())
    assert error is not None
    assert error.hints[0] == "without these versions it would be refused as well; for that:"
    assert any("newer glibc" in hint for hint in error.hints)


def test_what_must_change_together_is_said_at_once() -> None:
    """The glibc is judged after the driver: alone neither change leads to a plan."""
    catalog = load_catalog()
    box = machine("NVIDIA GeForce RTX 5090=12.0", "550.54.14", "2.27")
    with pytest.raises(NoRoute) as caught:
        make_plan(box, Request(), catalog)
    beginnings = [hint.partition(":")[0] for hint in caught.value.hints[:2]]
    assert beginnings == ["update the driver", "use a system (or container) with a newer glibc"]
