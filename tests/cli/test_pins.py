"""Versions as people type them: what is taken, and what a slip is answered with."""

from __future__ import annotations

import pytest

from provisioner.cli.pins import pin, torch_pins
from provisioner.errors import UsageError


@pytest.mark.parametrize(
    ("text", "option", "taken"),
    [
        ("3.12", "--python", "3.12"),
        ("12.8", "--cuda", "12.8"),
        ("12", "--cuda", "12"),
        ("cu128", "--cuda", "12.8"),
        ("CUDA12.4", "--cuda", "12.4"),
        ("2.9", "--torch", "2.9"),
        ("2.9.1+cu128", "--torch", "2.9.1+cu128"),
        ("2.8.3.post2", "--flash-attn", "2.8.3.post2"),
        (" 2.8.3 ", "--flash-attn", "2.8.3"),
        (None, "--torch", None),
    ],
)
def test_versions_are_taken_as_they_are_written(text: str | None, option: str, taken: str | None) -> None:
    assert pin(text, option) == taken


@pytest.mark.parametrize(
    ("text", "option", "meant"),
    [
        ("312", "--python", "3.12"),
        ("cp311", "--python", "3.11"),
        ("python3.10", "--python", "3.10"),
        ("3.12.4", "--python", "3.12"),
        ("12,4", "--cuda", "12.4"),
        ("124", "--cuda", "12.4"),
        ("v2.9", "--torch", "2.9"),
        ("==2.9.1", "--torch", "2.9.1"),
        ("210", "--torch", "2.10"),
        ("2;8;3", "--flash-attn", "2.8.3"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(text: str, option: str, meant: str) -> None:
    with pytest.raises(UsageError, match="needs a version") as caught:
        pin(text, option)
    assert caught.value.exit_code == 2
    assert list(caught.value.hints) == [f"did you mean {option} {meant}?"]
    assert pin(meant, option) == meant


@pytest.mark.parametrize("text", ["", "abc", "latest", "2..9", "-1"])
def test_nonsense_is_answered_with_the_form(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pin(text, "--torch")
    assert any("--torch 2." in hint for hint in caught.value.hints)


@pytest.mark.parametrize("text", ["nightly", "main", "2.12-dev"])
def test_a_nightly_is_refused_with_its_reason(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pin(text, "--torch")
    assert "no lock can name it" in (caught.value.why or "")


@pytest.mark.parametrize("text", ["2.7", "4.0", "3."])
def test_a_python_that_is_none_of_3_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        pin(text, "--python")


@pytest.mark.parametrize(
    ("torch", "cuda", "taken"),
    [
        ("2.10.0+cu128", None, ("2.10.0", "12.8")),
        ("2.10.0+cu128", "12.8", ("2.10.0", "12.8")),
        ("2.10", "12.6", ("2.10", "12.6")),
        (None, "12.6", (None, "12.6")),
    ],
)
def test_torchs_label_is_its_cuda(torch: str | None, cuda: str | None, taken: tuple[str | None, str | None]) -> None:
    assert torch_pins(torch, cuda) == taken


@pytest.mark.parametrize(("torch", "cuda"), [("2.10.0+cu128", "13.0"), ("2.10.0+cpu", None), ("2.10.0+rocm6.4", None)])
def test_a_label_that_cannot_be_planned_is_refused(torch: str, cuda: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        torch_pins(torch, cuda)
    assert caught.value.hints
