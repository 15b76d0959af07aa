from __future__ import annotations

import pytest

from provisioner.machine.smi_output import Header, read_header, read_outputs, read_query, read_table
from provisioner.process import Result


def ran(out: str, *, err: str = "", code: int = 0) -> Result:
    return Result(("nvidia-smi",), code, out, err, 0.1)


@pytest.mark.parametrize(
    ("line", "header"),
    [
        ("| NVIDIA-SMI 550.54.15   Driver Version: 550.54.15   CUDA Version: 12.4  |", Header("550.54.15", "12.4")),
        ("| NVIDIA-SMI 545.46      Driver Version: 546.80      CUDA Version: ERR!  |", Header("546.80", None)),
        ("| NVIDIA-SMI 396.44              Driver Version: 396.44                  |", Header("396.44", None)),
        ("| NVIDIA-SMI 610.57.04   KMD Version: 610.57.04  CUDA UMD Version: 13.3  |", Header("610.57.04", "13.3")),
        ("| NVIDIA-SMI 535.54.03   Driver Version: 535.54.03   CUDA Version: N/A   |", Header("535.54.03", None)),
        ("DRIVER version      : 591.86\nCUDA Version        : 13.1", Header(None, "13.1")),
        ("CUDA Version 11.1.1", Header(None, None)),
    ],
)
def test_the_header_is_read_in_its_old_and_new_wording_and_an_error_in_it_is_no_version(line: str, header: Header) -> None:
    assert read_header(line) == header


def test_cells_without_a_value_leave_the_fact_open() -> None:
    drivers, gpus = read_query(
        "550.54.15, [N/A], [Not Supported], [N/A], NVIDIA L20Y\n[Unknown Error], 81559, 9.0, Disabled, NVIDIA H800\n"
    )
    assert drivers == ["550.54.15"]
    assert [(gpu.name, gpu.compute_capability, gpu.memory_mib) for gpu in gpus] == [
        ("NVIDIA L20Y", None, None),
        ("NVIDIA H800", "9.0", 81559),
    ]


@pytest.mark.parametrize(
    "row",
    [
        "No devices were found",
        "550.54.15, 24564",
        "[GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost], [GPU is lost]",
        "Nicht unterstützt, Fehler, unbekannt",
        "550.54.15, 24564, 8.9, Disabled, \x00\x01\x02",
        "550.54.15, 24564, 8.9, Disabled, " + "A" * 500,
        ",,,,",
        "GPU 0,1,2,3,4,5,6,7: NVIDIA H20-3e",
        "GPU0    X   NV18    0-7,16-23,  8,10    0               N/A",
    ],
)
def test_a_row_that_is_no_gpu_is_left_out_and_its_neighbours_stay(row: str) -> None:
    good = "550.54.15, 24564, 8.9, [N/A], NVIDIA GeForce RTX 4090"
    _, gpus = read_query(f"{good}\n{row}\n{good}\n")
    assert [gpu.name for gpu in gpus] == ["NVIDIA GeForce RTX 4090"] * 2


def test_rows_in_a_localised_size_keep_the_gpu_but_not_the_size() -> None:
    _, gpus = read_query("550.54.15, 24 564 Mio, 8.9, [N/A], NVIDIA GeForce RTX 4090\n")
    assert [(gpu.name, gpu.memory_mib) for gpu in gpus] == [("NVIDIA GeForce RTX 4090", None)]


def test_the_table_stands_in_for_a_query_that_fails_and_processes_in_it_are_no_gpus() -> None:
    table = "\n".join(
        [
            "| NVIDIA-SMI 440.33.01    Driver Version: 440.33.01    CUDA Version: 10.2     |",
            "|   0  Tesla P100-SXM2...  On   | 00000000:04:00.0 Off |                    0 |",
            "| N/A   25C    P0    33W / 300W |     10MiB / 16280MiB |      0%      Default |",
            "| Processes:                                                       GPU Memory |",
            "|    4     32263      C   ...L.CA/u12345/venv/bin/python3.6            10243MiB |",
            "|   1  not a gpu           On   | 00000000:05:00.0 Off |                    0 |",
        ]
    )
    assert [(gpu.name, gpu.memory_mib) for gpu in read_table(table)] == [("Tesla P100-SXM2...", 16280)]
    machine = read_outputs(ran("", code=2), ran(table))
    assert (machine.driver.version, machine.driver.cuda) == ("440.33.01", "10.2")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54", "driver-lib-mismatch"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "driver-not-running"),
        ("Unable to determine the device handle for GPU0000:41:00.0: Unknown Error", "gpu-lost"),
        ("Failed to initialize NVML: Insufficient Permissions", "cuda-unavailable"),
    ],
)
def test_what_nvidia_smi_complains_of_is_a_fault_and_a_library_version_is_no_driver(text: str, code: str) -> None:
    machine = read_outputs(ran(text, code=9), ran(text, code=9))
    assert [fault.code for fault in machine.faults] == [code]
    assert machine.driver.version is None
    assert machine.gpus == ()


def test_ten_megabytes_of_garbage_are_no_gpu() -> None:
    garbage = "\x1b[31m, , , ,|  0 \x00" * 600_000
    assert read_outputs(ran(garbage), ran(garbage)).gpus == ()
