"""Each kind of text is read in the shapes in which people paste it."""

from __future__ import annotations

import html

import pytest

from provisioner.machine.facts import Machine
from provisioner.machine.report import read_report

XML = """<?xml version="1.0" ?>
<nvidia_smi_log>
<driver_version>525.125.06</driver_version>
<cuda_version>12.0</cuda_version>
<attached_gpus>2</attached_gpus>
<gpu id="00000000:17:00.0"><product_name>NVIDIA A40</product_name><fb_memory_usage><total>46068 MiB</total></fb_memory_usage></gpu>
<gpu id="00000000:18:00.0"><product_name>NVIDIA A40</product_name><fb_memory_usage><total>46068 MiB</total></fb_memory_usage></gpu>
</nvidia_smi_log>
"""


def machine(text: str) -> Machine:
    return read_report(text).machine


def test_an_xml_log_is_read_also_when_a_tracker_escaped_it() -> None:
    for text in (XML, html.escape(XML)):
        found = machine(text)
        assert found.driver.version == "525.125.06"
        assert found.driver.cuda == "12.0"
        assert [(gpu.name, gpu.memory_mib, gpu.compute_capability) for gpu in found.gpus] == [("NVIDIA A40", 46068, "8.6")] * 2


def test_an_xml_log_on_one_line_is_read() -> None:
    assert len(machine(XML.replace("\n", " ")).gpus) == 2


@pytest.mark.parametrize(
    "text",
    [
        "name, driver_version, memory.total [MiB], compute_cap\nNVIDIA H100 80GB HBM3, 535.161.08, 81559 MiB, 9.0\n",
        "NVIDIA H100 80GB HBM3, 81559 MiB, 535.161.08, 9.0\n",
        "0, NVIDIA H100 80GB HBM3, 535.161.08, 9.0, 81559 MiB\n",
    ],
)
def test_a_query_row_is_read_by_the_shape_of_its_fields(text: str) -> None:
    found = machine(text)
    assert found.driver.version == "535.161.08"
    assert [(gpu.name, gpu.compute_capability, gpu.memory_mib) for gpu in found.gpus] == [("NVIDIA H100 80GB HBM3", "9.0", 81559)]


def test_a_device_list_names_mig_slices_and_drops_uuids() -> None:
    text = "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c2d)\n  MIG 1g.5gb     Device  0: (UUID: MIG-1)\n  MIG 1g.5gb     Device  1: (UUID: MIG-2)\n"
    found = machine(text).gpus
    assert [(gpu.name, gpu.partition, gpu.compute_capability) for gpu in found] == [("NVIDIA A100-SXM4-40GB", "mig", "8.0")]


def test_a_renamed_header_of_new_drivers_is_read() -> None:
    text = "| NVIDIA-SMI 610.57.04    KMD Version: 610.57.04    CUDA UMD Version: 13.3    |\n"
    assert (machine(text).driver.version, machine(text).driver.cuda) == ("610.57.04", "13.3")


def test_a_windows_table_says_windows() -> None:
    text = (
        "| NVIDIA-SMI 560.94    Driver Version: 560.94    CUDA Version: 12.6 |\n"
        "|   0  NVIDIA GeForce RTX 4070 ...  WDDM  |   00000000:01:00.0  On |                  N/A |\n"
        "|  0%   40C    P8     5W / 200W |    900MiB /  12282MiB |      1%      Default |\n"
    )
    found = machine(text)
    assert found.platform.os == "Windows"
    assert found.platform.wsl == "no"
    assert found.gpus[0].memory_mib == 12282


@pytest.mark.parametrize(
    "prefix",
    [
        "> ",
        "> > ",
        "#12 34.567 ",
        "[rank3]: ",
        "[rank3]:",
        "(RayWorker pid=9, ip=10.0.0.1) ",
        "2024-05-01T10:11:12.123Z ",
        "\x1b[32m",
        "    ",
    ],
)
def test_log_prefixes_quotes_and_colours_do_not_hide_a_fact(prefix: str) -> None:
    text = "".join(
        f"{prefix}{line}\n"
        for line in ("PyTorch version: 2.6.0+cu124", "Libc version: glibc-2.35", "Nvidia driver version: 550.54.14")
    )
    found = machine(text)
    assert (found.software.torch, found.software.torch_cuda) == ("2.6.0+cu124", "12.4")
    assert found.platform.glibc == "2.35"
    assert found.driver.version == "550.54.14"


def test_a_python_prompt_is_no_quotation() -> None:
    assert machine(">>> import torch\n>>> torch.__version__\n'2.7.1+cu126'\n").software.torch == "2.7.1+cu126"


@pytest.mark.parametrize(
    ("text", "torch", "cuda"),
    [
        ("pytorch                   2.5.1           py3.12_cuda12.4_cudnn9.1.0_0    pytorch", "2.5.1", "12.4"),
        ("torch==2.9.1", "2.9.1", None),
        ("torch                    2.8.0+cu128", "2.8.0+cu128", "12.8"),
        ("| torch | 2.4.1 |", "2.4.1", None),
        ("Requirement already satisfied: torch in /opt/v/lib/python3.11/site-packages (from flash-attn) (2.1.0)", "2.1.0", None),
        ("Successfully installed sympy-1.13.1 torch-2.6.0+cu118 triton-3.2.0", "2.6.0+cu118", "11.8"),
        ("Name: torch\nVersion: 2.3.0+cpu\nSummary: Tensors", "2.3.0+cpu", None),
    ],
)
def test_lists_of_packages_state_torch(text: str, torch: str, cuda: str | None) -> None:
    assert (machine(text).software.torch, machine(text).software.torch_cuda) == (torch, cuda)


@pytest.mark.parametrize(
    "text",
    [
        "Collecting torch==2.3.0\n  Downloading torch-2.3.0-cp312-cp312-manylinux1_x86_64.whl (779.1 MB)\n",
        "ERROR: flash_attn-2.7.0-cp310-cp310-win_amd64.whl is not a supported wheel on this platform.\n",
        "NVIDIA_REQUIRE_CUDA=cuda>=12.8 brand=tesla,driver>=470,driver<471\nCUDA_VERSION=12.8.1\nCUDNN_VERSION=9.7.1.26\n",
        "CUDA Version 11.1.1\n",
        "| 4  32263  C  /u/venv/bin/python3.6  10243MiB |\n",
        "cuda：12.2\njetpack：6\n",
    ],
)
def test_what_only_looks_like_a_fact_is_not_one(text: str) -> None:
    found = machine(text)
    assert found.software.torch is None
    assert found.software.python is None
    assert found.software.torch_cuda is None
    assert found.driver.version is None
    assert found.driver.cuda is None


@pytest.mark.parametrize(
    ("text", "wsl"),
    [
        ("Linux box 5.15.167.4-microsoft-standard-WSL2 #1 SMP x86_64 GNU/Linux", "2"),
        ("Linux box 4.4.0-19041-Microsoft #488-Microsoft Mon Sep 01 x86_64 GNU/Linux", "1"),
        ("Linux box 6.8.0-52-generic #53~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC x86_64 GNU/Linux", "no"),
        ("Tesla T4", None),
    ],
)
def test_the_kernel_tells_wsl(text: str, wsl: str | None) -> None:
    assert machine(text).platform.wsl == wsl


def test_origins_name_the_reader_that_answered() -> None:
    assert (
        machine("Nvidia driver version: 550.54.14\nGPU models and configuration: GPU 0: NVIDIA L4\n").origins["driver.version"]
        == "collect_env"
    )
