"""The selection options: which machine is meant, and what a wrong value is answered with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from provisioner.cli.options import speaking
from provisioner.cli.selection import Selection, driver_version, gpu_named, select_machine, selecting
from provisioner.codec import to_json
from provisioner.errors import NoRoute, UsageError
from provisioner.machine.facts import Fault, Machine
from provisioner.planning.values import BuildChoice
from tests.planning.machines import machine

HERE = machine("Tesla T4=7.5", "470.103.01", "2.31", pythons="3.11", gcc="12.2")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    path = tmp_path / "machine.json"
    path.write_text(to_json(HERE))
    return path


def take(*words: str) -> Selection:
    """Return the selection that a command gets for these options."""
    seen: list[Selection] = []

    @click.command()
    @selecting
    @speaking
    def command(selection: Selection, **rest: Any) -> None:
        seen.append(selection)

    result = CliRunner().invoke(command, list(words), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return seen[0]


def test_a_gpu_by_name_replaces_gpus_driver_and_their_faults(here: Path) -> None:
    chosen = select_machine(("RTX 4090",), driver="535.104.05", path=here)
    assert [(gpu.name, gpu.compute_capability, gpu.source) for gpu in chosen.gpus] == [("GeForce RTX 4090", "8.9", "user")]
    assert chosen.driver.version == "535.104.05"
    assert chosen.origins["gpus"] == "user"
    assert chosen.platform == HERE.platform
    assert chosen.pythons == HERE.pythons


def test_a_gpu_without_a_driver_means_that_the_driver_is_not_known(here: Path) -> None:
    assert select_machine(("sm_90",), path=here).driver.version is None


def test_faults_of_this_hosts_gpu_say_nothing_about_another(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    faulty = Machine(faults=(Fault("no-gpu", "none"), Fault("driver-not-running", "none")))
    path.write_text(to_json(faulty))
    assert select_machine(("H100",), path=path).faults == ()


def test_several_gpus_and_architectures(here: Path) -> None:
    assert [
        gpu.compute_capability for gpu in take("--machine", str(here), "--gpu", "2080 Ti", "--gpu", "sm_89").machine.gpus
    ] == [
        "7.5",
        "8.9",
    ]


def test_a_gpu_that_exists_on_arm_alone_brings_its_processor(here: Path) -> None:
    chosen = select_machine(("GH200",), path=here)
    assert chosen.platform.machine == "aarch64"
    assert chosen.pythons == ()
    assert chosen.platform.glibc is None


@pytest.mark.parametrize(("name", "near"), [("RTX 4099", "4090"), ("H1000", "H100"), ("sm_99", "sm_90")])
def test_an_unknown_gpu_is_answered_with_near_names(name: str, near: str) -> None:
    with pytest.raises(UsageError) as caught:
        gpu_named(name)
    assert caught.value.exit_code == 2
    assert any(near in hint for hint in caught.value.hints), caught.value.hints


@pytest.mark.parametrize(
    ("name", "maker", "code"),
    [
        ("Radeon RX 7900 XTX", "AMD", "rocm"),
        ("MI300X", "AMD", "rocm"),
        ("Arc A770", "Intel", "not-nvidia"),
        ("M3 Max", "Apple", "not-nvidia"),
    ],
)
def test_another_makers_gpu_is_refused_as_one(name: str, maker: str, code: str) -> None:
    with pytest.raises(NoRoute, match=maker) as caught:
        gpu_named(name)
    assert (caught.value.code, caught.value.exit_code) == (code, 3)


@pytest.mark.parametrize("text", ["foo", "", "12", "5.35", "535.104.05.1.2", "-535", "535,104"])
def test_a_driver_that_is_none_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="not an NVIDIA driver"):
        driver_version(text)


def test_wsl_and_glibc_replace_the_platforms(here: Path) -> None:
    chosen = select_machine(path=here, wsl=True, glibc="2.39")
    assert (chosen.platform.wsl, chosen.platform.glibc) == ("2", "2.39")
    with pytest.raises(UsageError, match="not a glibc"):
        select_machine(path=here, glibc="new")


def test_pins_and_wishes_become_the_request(here: Path) -> None:
    words = [
        "--python",
        "3.12",
        "--torch",
        "2.9",
        "--cuda",
        "12.8",
        "--flash-attn",
        "2.8.3.post2",
        "--backend",
        "venv",
        "--recipe",
        "ampere",
        "--allow-community",
        "--only",
        "flash-attn",
        "--with",
        "datasets>=3",
        "--offline",
        "--no-build",
    ]
    request = take("--machine", str(here), *words).request
    assert (request.python, request.torch, request.cuda, request.flash_attn) == ("3.12", "2.9", "12.8", "2.8.3.post2")
    assert (request.backend, request.recipe, request.packages) == ("venv", "ampere", ("datasets>=3",))
    assert request.allow_community
    assert request.only_flash_attn
    assert request.offline
    assert request.build is BuildChoice.NEVER


def test_kernel_options_become_a_selection(here: Path) -> None:
    kernels = take("--machine", str(here), "--head-dims", "128,64", "--dtypes", "bf16").request.kernels
    assert kernels
    assert (kernels.preset, kernels.head_dims, kernels.dtypes) == ("custom", (64, 128), ("bf16",))
    assert take("--machine", str(here)).request.kernels is None
    full = take("--machine", str(here), "--kernels", "full").request.kernels
    assert full
    assert full.preset == "full"


@pytest.mark.parametrize(
    "words",
    [
        ("--head-dims", "127"),
        ("--head-dims", "many"),
        ("--dtypes", "fp8"),
        ("--features", "magic"),
        ("--torch", "newest"),
        ("--cuda", "12.x"),
        ("--with", "not a requirement"),
        ("--no-build", "--kernels", "full"),
        ("--driver", "new"),
    ],
)
def test_a_wrong_value_is_a_usage_error_with_a_way_on(here: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        take("--machine", str(here), *words)
    assert caught.value.exit_code == 2
    assert caught.value.hints or caught.value.why


def test_a_machine_file_may_be_a_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "detect.json"
    path.write_text(json.dumps({"schema": 1, "machine": json.loads(to_json(HERE))}))
    assert select_machine(path=path).gpus == HERE.gpus


@pytest.mark.parametrize("name", ["none", "CPU"])
def test_no_gpu_is_asked_for_by_the_recipe(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        gpu_named(name)
    assert any("--recipe cpu" in hint for hint in caught.value.hints)


@pytest.mark.parametrize("package", ["flash-attn", "flash_attn==2.8.3", "torch>=2.5"])
def test_what_the_plan_chooses_is_not_added_beside_it(here: Path, package: str) -> None:
    with pytest.raises(UsageError, match="the plan itself chooses") as caught:
        take("--machine", str(here), "--with", package)
    assert any(hint.startswith("say which: --") for hint in caught.value.hints)
    assert take("--machine", str(here), "--with", "torchvision").request.packages == ("torchvision",)


MIXED = Path(__file__).parents[1] / "machines" / "arch-rtx3090+rtx2080ti-510.54"


def test_some_of_the_machines_own_gpus_keep_its_driver_and_others_do_not() -> None:
    assert select_machine(("sm_86",), path=MIXED).driver.version == "510.54"
    assert select_machine(("sm_86",), path=MIXED, driver="580.65.06").driver.version == "580.65.06"
    assert select_machine(("sm_90",), path=MIXED).driver.version is None
    assert select_machine(("rtx 3090",), path=MIXED).driver.version is None


@pytest.mark.parametrize("text", ["torch", "flash_attn", "flash.attn", "Flash-Attn==2.8.3", "xformers==0.0.30", "triton"])
def test_what_the_plan_chooses_is_not_asked_for_with_with(here: Path, text: str) -> None:
    with pytest.raises(UsageError, match="the plan itself chooses"):
        take("--machine", str(here), "--with", text)
