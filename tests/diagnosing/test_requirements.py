"""What packages ask of one another: unsloth's pins, extensions compiled for one torch, and what is not installed at all."""

from __future__ import annotations

import pytest

from provisioner.diagnosing.checks import requirements
from provisioner.diagnosing.findings import Severity
from provisioner.diagnosing.inventory import Copy, Interpreter, Inventory

UNSLOTH = (
    "transformers<=5.17.0,>=4.52.4",
    "triton>=3.0.0; sys_platform == 'linux'",
    "pywin32; sys_platform == 'win32'",
    "torch<2.15",
)


def environment(python: str = "3.12.3", /, **versions: tuple[str, tuple[str, ...]]) -> Inventory:
    """An environment of these packages: version and requirements each."""
    packages: dict[str, tuple[Copy, ...]] = {
        name.replace("_", "-"): (Copy(version, "/s", f"/s/{name}", requires=asked),)
        for name, (version, asked) in versions.items()
    }
    return Inventory(
        Interpreter("/e/bin/python", python, "/e", "/usr", "venv"),
        packages=packages,
        versions={name: copies[0].version for name, copies in packages.items()},
        host={"system": "linux", "machine": "x86_64"},
    )


def found(inventory: Inventory) -> dict[str, tuple[Severity, str, str]]:
    return {
        one.code: (one.severity, one.title, (one.fix.command if one.fix else None) or "") for one in requirements.check(inventory)
    }


def test_versions_inside_the_pins_are_no_finding_and_other_systems_pins_do_not_count() -> None:
    good = environment(
        unsloth=("2026.10.9", UNSLOTH), transformers=("5.17.0", ()), triton=("3.8.0", ()), torch=("2.14.1+cu130", ())
    )
    assert found(good) == {}


def test_all_violated_pins_are_repaired_by_one_command_that_suits_the_others() -> None:
    """trl asks for more of transformers than unsloth does; torchvision's wish belongs to the torch that goes."""
    seen = found(
        environment(
            unsloth=("2026.10.9", UNSLOTH), transformers=("4.30.0", ()), triton=("3.8.0", ()), torch=("2.16.0", ("triton~=3.8.0",)),
            trl=("1.15.0", ("transformers>=4.56.2",)), torchvision=("0.31.0", ("torch==2.16.0",)),
        )
    )  # fmt: skip
    severity, title, command = seen["unsloth-pin-violated"]
    assert severity is Severity.ERROR
    assert title == "unsloth 2026.10.9 asks for transformers>=4.52.4, 4.30.0 is installed; 1 more like it"
    assert command.endswith("'transformers<=5.17.0,>=4.52.4,>=4.56.2' 'torch<2.15' torchvision")
    assert set(seen) == {"unsloth-pin-violated"}


def test_a_triton_that_is_not_installed_is_asked_for_as_torch_wants_it() -> None:
    seen = found(environment(unsloth=("2026.10.9", UNSLOTH), transformers=("5.17.0", ()), torch=("2.14.1", ("triton~=3.8.0",))))
    severity, title, command = seen["missing-dependency"]
    assert severity is Severity.ERROR
    assert "triton" in title
    assert command.endswith("'triton>=3.0.0,~=3.8.0'")


@pytest.mark.parametrize("package", ["torchvision", "torchaudio", "xformers"])
def test_an_extension_of_another_torch_is_named(package: str) -> None:
    seen = found(environment(torch=("2.13.0+cpu", ()), **{package: ("0.1", ("torch==2.9.1",))}))
    severity, title, command = seen[f"{package}-torch-mismatch"]
    assert severity is Severity.ERROR
    assert title == f"{package} 0.1 is built for torch==2.9.1, 2.13.0+cpu is installed"
    assert command.endswith(f"--upgrade {package} torch==2.13.0+cpu")


def test_what_pip_check_would_say_is_a_warning_where_unsloth_does_not_ask_for_it() -> None:
    seen = found(environment(peft=("0.21.2", ("accelerate>=1.0", "safetensors")), accelerate=("0.3", ())))
    assert seen["requirement-unmet"][:2] == (
        Severity.WARNING,
        "peft 0.21.2 asks for accelerate>=1.0, 0.3 is installed; 1 more like it",
    )


def test_a_report_of_an_older_script_that_lists_watched_packages_only_is_not_said_to_lack_the_rest() -> None:
    inventory = environment(peft=("0.21.2", ("safetensors",)))
    assert "requirement-unmet" in found(inventory)
    assert found(Inventory(inventory.python, packages=inventory.packages)) == {}
