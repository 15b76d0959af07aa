"""Formats without a reader of their own: issue forms, other tools' reports, tables, prompts, and prefixes of many kinds."""

from __future__ import annotations

from collections import Counter

import pytest

from provisioner.machine.facts import Machine
from provisioner.machine.report import read_report

COLLECT_ENV = (
    "PyTorch version: 2.6.0+cu124\nIs debug build: False\nCUDA used to build PyTorch: 12.4\nROCM used to build PyTorch: N/A\n\n"
    "OS: Ubuntu 22.04.5 LTS (x86_64)\nGCC version: (Ubuntu 11.4.0-1ubuntu1~22.04) 11.4.0\nLibc version: glibc-2.35\n\n"
    "Python version: 3.11.9 (main, Apr  6 2024, 17:59:24) [GCC 11.4.0] (64-bit runtime)\n"
    "Python platform: Linux-6.8.0-57-generic-x86_64-with-glibc2.35\nIs CUDA available: True\nCUDA runtime version: 12.4.131\n"
    "GPU models and configuration: \nGPU 0: NVIDIA L40S\nGPU 1: NVIDIA L40S\n\nNvidia driver version: 550.54.15\n"
)


def machine(text: str) -> Machine:
    return read_report(text).machine


def gpus(text: str) -> dict[str, int]:
    return dict(Counter(str(gpu.name) for gpu in machine(text).gpus))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- GPU: NVIDIA GeForce RTX 4090", {"NVIDIA GeForce RTX 4090": 1}),
        ("**GPU model**: 8 x NVIDIA H100 80GB HBM3", {"NVIDIA H100 80GB HBM3": 8}),
        ("显卡：NVIDIA A10", {"NVIDIA A10": 1}),
        ("| GPU | NVIDIA L4 |\n|---|---|\n| Driver | 550.54.15 |", {"NVIDIA L4": 1}),
        ("- **Name:** cuda:0 NVIDIA GeForce RTX 3060 : cudaMallocAsync", {"NVIDIA GeForce RTX 3060": 1}),
        (
            "Device: cuda:0 NVIDIA GeForce RTX 5090 : native\nDevice: cuda:0 NVIDIA GeForce RTX 5090 : native",
            {"NVIDIA GeForce RTX 5090": 2},
        ),
        ("GPU: NVIDIA A40\nsteps: 3\nGPU: NVIDIA A40 | 1.5e14 FLOPS", {"NVIDIA A40": 1}),
        ("GPU 0,1                 Tesla V100-SXM2-16GB (arch=7.0)", {"Tesla V100-SXM2-16GB": 2}),
        ("NVIDIA A100-SXM4-40GB\nNVIDIA A100-SXM4-40GB", {"NVIDIA A100-SXM4-40GB": 2}),
        ("GPU: NVIDIA Corporation TU104GL [Tesla T4] (rev a1)", {"Tesla T4": 1}),
        ("01:00.0 VGA compatible controller: NVIDIA Corporation GA102 [GeForce RTX 3090] (rev a1)", {"GeForce RTX 3090": 1}),
        (
            "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. "
            "Your Tesla T4 GPU has compute capability 7.5. You can use float16 instead",
            {"Tesla T4": 1},
        ),
        ("GPU: whatever I can get", {}),
        ("Model: meta-llama/Llama-3.1-8B", {}),
        ("GPU: NVIDIA GeForce RTX 4", {}),
    ],
)
def test_a_line_names_the_device_only_where_it_names_a_model(text: str, expected: dict[str, int]) -> None:
    assert gpus(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        COLLECT_ENV,
        COLLECT_ENV.replace("\n", " "),
        COLLECT_ENV.replace("\n", "<br>"),
        "\n".join("node07: " + line for line in COLLECT_ENV.split("\n")),
        "\n".join("web-1  | " + line for line in COLLECT_ENV.split("\n")),
        "\n".join("2026-01-02 03:04:05,678 - root - INFO - " + line for line in COLLECT_ENV.split("\n")),
        COLLECT_ENV.replace(": ", "："),
    ],
    ids=["as printed", "one line", "HTML", "host", "compose", "logging", "full width"],
)
def test_collect_env_is_read_however_it_was_pasted(text: str) -> None:
    found = machine(text)
    assert (found.software.torch, found.software.torch_cuda, found.software.python) == ("2.6.0+cu124", "12.4", "3.11.9")
    assert (found.platform.os, found.platform.glibc, found.platform.wsl) == ("Ubuntu 22.04.5 LTS (x86_64)", "2.35", "no")
    assert (found.driver.version, found.software.nvcc) == ("550.54.15", "12.4.131")
    assert [gpu.name for gpu in found.gpus] == ["NVIDIA L40S"] * 2


@pytest.mark.parametrize(
    ("text", "python"),
    [
        ("- **Python Version:** 3.12.9 (main, Feb 12 2025, 14:52:31) [MSC v.1942 64 bit (AMD64)]", "3.12.9"),
        (
            "[2024-09-14 19:20] ** Python version: 3.11.9 (tags/v3.11.9:de54cf5, Apr  2 2024, 10:12:12) [MSC v.1938 64 bit (AMD64)]",
            "3.11.9",
        ),
        (
            "2025-02-28T18:10:42.263033 - ** Python version:2025-02-28T18:10:42.263033 -  2025-02-28T18:10:42.263033 - 3.12.9 (main)",
            "3.12.9",
        ),
        ("Python  : 3.10, uv-managed venv", "3.10"),
        ("Using CPython 3.11.4 interpreter at: /usr/bin/python3.11", "3.11.4"),
        ('-- Found Python: /opt/conda/bin/python3.9 (found version "3.9.18")', "3.9.18"),
        ("Python 3.8, 3.9 or 3.10 is needed", None),
        ("requires Python >= 3.9", None),
    ],
)
def test_the_python_that_ran_is_told_from_one_that_is_asked_for(text: str, python: str | None) -> None:
    assert machine(text).software.python == python


def test_the_row_of_a_table_cut_short_still_names_its_device() -> None:
    table = (
        "| NVIDIA-SMI 530.30.02              Driver Version: 531.14       CUDA Version: 12.1     |\n"
        "|=========================================+======================+======================|\n"
        "|   0  NVIDIA GeForce GTX 1080 Ti      On | 00000000:01:00.0  On |"
    )
    assert gpus(table) == {"NVIDIA GeForce GTX 1080 Ti": 1}


def test_the_c_library_of_an_old_python_is_not_the_systems() -> None:
    """``platform.libc_ver`` of Pythons up to 3.7 names the oldest symbol version that the interpreter needs (bpo-26544)."""
    text = "Python platform: Linux-3.10.0-1160.el7.x86_64-x86_64-with-glibc2.2.5\nOS: CentOS Linux 7 (Core) (x86_64)\nPython version: 3.6 (64-bit runtime)"
    assert machine(f"PyTorch version: 1.7.0\nCUDA used to build PyTorch: 10.2\n{text}").platform.glibc in (None, "2.17")


def test_lines_cut_at_the_width_of_a_terminal_are_joined() -> None:
    line = "ImportError: /home/user/miniconda3/envs/x/lib/python3.11/site-packages/flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so: undefined"
    lines = [line[:100], line[100:] + " symbol: _ZN3c105ErrorC2E", "x" * 99 + "y", "z"]
    assert machine("\n".join(lines)).software.python == "3.11"


def test_the_unfilled_message_of_a_cuda_mismatch_states_both_versions() -> None:
    text = "RuntimeError: ('The detected CUDA version (%s) mismatches the version that was used to compilePyTorch (%s).', '12.8', '13.0')"
    found = machine(text).software
    assert (found.nvcc, found.torch_cuda) == ("12.8", "13.0")


def test_deepspeeds_comparison_of_nvcc_and_torch_states_both_versions() -> None:
    found = machine(
        "Exception: >- DeepSpeed Op Builder: Installed CUDA version 12.0 does not match the version torch was compiled with 11.7"
    ).software
    assert (found.nvcc, found.torch_cuda) == ("12.0", "11.7")


def test_versions_behind_labels_of_others() -> None:
    found = machine(
        "FlashAttention: 2.7.3\nSageAttention: 2.2.0\nnvcc Version: Build cuda_12.9.r12.9/compiler.36037853_0"
    ).software
    assert (found.flash_attn, found.nvcc) == ("2.7.3", "12.9")
    assert machine("Flash attention: 2").software.flash_attn is None
    assert [gpu.name for gpu in machine("deviceName = NVIDIA GeForce RTX 4090").gpus] == ["NVIDIA GeForce RTX 4090"]


def test_a_module_soldered_to_an_arm_processor_is_an_arm_machine() -> None:
    assert machine("Device: NVIDIA Jetson AGX Orin").platform.machine == "aarch64"
    assert machine("GPU: NVIDIA A40").platform.machine is None


def test_what_pip_installed_last_replaces_what_it_found() -> None:
    text = (
        "Requirement already satisfied: flash-attn in /usr/lib/python3/dist-packages (2.0.4)\nSuccessfully installed flash-attn-2.3.6\n"
        "Successfully installed einops-0.8.1 flash-attn-2.8.3\n"
    )
    assert machine(text).software.flash_attn == "2.8.3"
