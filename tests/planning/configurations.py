"""Named real configurations whose plans are kept as golden files; the comment names where such a machine was met."""

from __future__ import annotations

from typing import NamedTuple

from provisioner.machine.facts import Fault, Machine, Platform
from provisioner.planning.values import BuildChoice, KernelSelection, Request
from tests.planning.machines import machine

INDEX_ONLY = "conda-channel torch-index releases"
D128 = KernelSelection("custom", (128,), ("bf16",))


class Configuration(NamedTuple):
    """A machine and a request."""

    machine: Machine
    request: Request = Request()


CONFIGURATIONS: dict[str, Configuration] = {
    # the recipe rows
    "h100-default": Configuration(machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36")),
    "h100-index-only-d128-bf16": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36", pythons="3.11", gcc="12.2", dead=INDEX_ONLY),
        Request(kernels=D128),
    ),
    "h100-index-only": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36", pythons="3.11", gcc="12.2", dead=INDEX_ONLY)
    ),
    "h100-index-only-no-headers": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36", pythons="3.11", headers=False, gcc="12.2", dead=INDEX_ONLY)
    ),
    "h100-index-only-no-compiler": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36", pythons="3.11", dead=INDEX_ONLY)
    ),
    "h100-index-only-driver-550": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "550.54.15", "2.36", pythons="3.11", gcc="12.2", dead=INDEX_ONLY)
    ),
    "h100-releases-only-python-311": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "550.54.15", "2.36", pythons="3.11", gcc="12.2", dead="conda-channel")
    ),
    "h100-nothing-answers": Configuration(
        machine("NVIDIA H100 80GB HBM3=9.0", "550.54.15", "2.36", dead=f"{INDEX_ONLY} package-index")
    ),
    "h100-driver-unknown": Configuration(machine("NVIDIA H100 80GB HBM3=9.0", None, "2.36")),
    "h100-build": Configuration(machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06", "2.36"), Request(build=BuildChoice.ALWAYS)),
    "h100-build-driver-550": Configuration(machine("NVIDIA H100 80GB HBM3=9.0", "550.54.15"), Request(build=BuildChoice.ALWAYS)),
    "h100-only-flash-attn": Configuration(machine("NVIDIA H100 80GB HBM3=9.0", "580.65.06"), Request(only_flash_attn=True)),
    "h200-mig-rhel95": Configuration(machine("NVIDIA H200=9.0", "570.124.06", "2.34")),  # cases 024
    "h20-3e": Configuration(machine("NVIDIA H20-3e=9.0", "550.144.03", None)),  # cases 056
    "h800-driver-535": Configuration(machine("NVIDIA H800=9.0", "535.129.03", "2.35")),  # cases 180
    "gh200-ubuntu-2204": Configuration(machine("NVIDIA GH200 480GB=9.0", "570.124.06", "2.35", processor="aarch64")),
    "gb200": Configuration(machine("NVIDIA GB200=10.0", "570.158.01", "2.35", processor="aarch64")),  # cases 034
    "gb10-dgx-spark": Configuration(machine("NVIDIA GB10=12.1", "580.95.05", "2.39", processor="aarch64")),  # cases 192
    "b200": Configuration(machine("NVIDIA B200=10.0", "570.124.06", "2.35")),
    "b200-ubuntu-2004": Configuration(machine("NVIDIA B200=10.0", "570.124.06", "2.31")),
    "b200-python-311": Configuration(machine("NVIDIA B200=10.0", "580.65.06", "2.35"), Request(python="3.11")),
    "b200-driver-550": Configuration(machine("NVIDIA B200=10.0", "550.54.15", "2.35")),
    "b300": Configuration(machine("NVIDIA B300=10.3", "580.65.06", "2.35")),
    "rtx5090": Configuration(machine("NVIDIA GeForce RTX 5090=12.0", "570.144", "2.35")),  # cases 032
    "rtx5090-python-314": Configuration(machine("NVIDIA GeForce RTX 5090=12.0", "580.65.06", "2.39"), Request(python="3.14")),
    "rtx5090-wsl": Configuration(machine("NVIDIA GeForce RTX 5090=12.0", "572.61", "2.39", wsl="2")),
    "rtx5090-wsl-ubuntu-2004": Configuration(machine("NVIDIA GeForce RTX 5090=12.0", "572.61", "2.31", wsl="2")),
    "rtx3090-rtx5090-mixed": Configuration(
        machine("NVIDIA GeForce RTX 3090=8.6,NVIDIA GeForce RTX 5090=12.0", "575.57.08", "2.39")
    ),  # cases 062
    "rtx4090-ubuntu-2204-driver-535": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "535.104.05", "2.35")),
    "rtx4090-ubuntu-2004-driver-525": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "525.60.13", "2.31")),
    "rtx4090-fedora-41": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "570.124.06", "2.40")),  # cases 026
    "rtx4090-wsl": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "560.94", "2.39", wsl="2")),  # cases 048
    "rtx4090-wsl-ubuntu-2004": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "560.94", "2.31", wsl="2")),
    "rtx4090-wsl-build": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "581.29", "2.39", wsl="2"), Request(build=BuildChoice.ALWAYS)
    ),
    "rtx4090-python-313": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(python="3.13")),
    "rtx4090-python-314-driver-550": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(python="3.14")),
    "rtx4090-torch-26-cuda-124": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(torch="2.6", cuda="12.4", python="3.11")
    ),
    "rtx4090-torch-26-cuda-128": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "570.26"), Request(torch="2.6", cuda="12.8", python="3.11")
    ),
    "rtx4090-torch-211": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "580.65.06"), Request(torch="2.11")),
    "rtx4090-torch-214": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "580.65.06"), Request(torch="2.14")),
    "rtx4090-torch-280-python-311": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(torch="2.8.0", python="3.11")
    ),
    "rtx4090-cuda-13-driver-550": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(cuda="13.0")),
    "rtx4090-community-python-313-torch-210": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(torch="2.10", python="3.13", allow_community=True)
    ),
    "rtx4090-offline": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(offline=True)),
    "rtx4090-offline-ubuntu-2004-python-313": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15", "2.31"), Request(offline=True, python="3.13", build=BuildChoice.NEVER)
    ),
    "rtx4090-flash-attn-109": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "550.54.15"), Request(flash_attn="1.0.9")),
    "rtx3090-driver-515": Configuration(machine("NVIDIA GeForce RTX 3090=8.6", "515.65.01", "2.35")),  # cases 084
    "rtx3060-a6000": Configuration(machine("NVIDIA GeForce RTX 3060=8.6,NVIDIA RTX A6000=8.6", "550.54.15")),  # cases 014
    "rtx3070-laptop-wsl": Configuration(machine("NVIDIA GeForce RTX 3070 Laptop GPU=8.6", "566.36", None, wsl="2")),  # cases 064
    "rtx3090-rtx2080ti-driver-510": Configuration(
        machine("NVIDIA GeForce RTX 3090=8.6,NVIDIA GeForce RTX 2080 Ti=7.5", "510.54", "2.35")
    ),  # cases 086
    "rtx4090-rtx2080ti": Configuration(machine("NVIDIA GeForce RTX 4090=8.9,NVIDIA GeForce RTX 2080 Ti=7.5", "550.54.15")),
    "a100-ubuntu-2004-driver-470": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0", "470.161.03", "2.31")),  # cases 020
    "a100-centos-7-driver-470": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0", "470.103.01", "2.17")),  # cases 016
    "a100-centos-7": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0", None, "2.17")),  # cases 018
    "a100-rhel-8": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0", "535.104.05", "2.28")),
    "a100-debian-11": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0", "550.54.15", "2.31")),  # cases 116
    "a100-volta-mixed": Configuration(machine("NVIDIA A100-SXM4-80GB=8.0,Tesla V100-SXM2-32GB=7.0", "535.104.05")),
    "l4-amazon-linux-2": Configuration(machine("NVIDIA L4=8.9", "550.90.07", "2.26")),  # cases 028
    "a40-vgpu": Configuration(machine("NVIDIA A40-48Q=8.6", "550.90.07", None)),  # cases 052
    "jetson-orin-jetpack-6": Configuration(
        machine("Orin (nvgpu)=8.7", "540.4.0", "2.35", processor="aarch64", jetson="36.4.3")
    ),  # cases 104
    "jetson-thor": Configuration(machine("NVIDIA Thor=11.0", "580.00", "2.39", processor="aarch64", jetson="38.2")),
    "jetson-xavier": Configuration(machine("Xavier=7.2", None, "2.31", processor="aarch64", jetson="35.4.1")),
    # turing
    "t4-colab": Configuration(machine("Tesla T4=7.5", "550.54.15", "2.35")),
    "t4-wsl": Configuration(machine("Tesla T4=7.5", "560.94", "2.39", wsl="2")),
    "t4-driver-515": Configuration(machine("Tesla T4=7.5", "515.105.01", "2.35")),  # cases 092
    "t4-build": Configuration(machine("Tesla T4=7.5", "550.54.15"), Request(build=BuildChoice.ALWAYS)),
    "rtx2080ti-x2-driver-460": Configuration(
        machine("GeForce RTX 2080 Ti=7.5,GeForce RTX 2080 Ti=7.5", "460.32.03", "2.31")
    ),  # cases 202
    "rtx2080ti-wsl": Configuration(machine("NVIDIA GeForce RTX 2080 Ti=7.5", "556.12", "2.39", wsl="2")),  # cases 010
    "gtx1650ti-wsl-driver-510": Configuration(machine("NVIDIA GeForce GTX 1650 Ti=7.5", "510.06", "2.35", wsl="2")),  # cases 204
    "quadro-rtx6000-driver-455": Configuration(machine("Quadro RTX 6000=7.5", "455.32.00", "2.31")),  # cases 080
    "rtx2080-super-driver-610": Configuration(machine("NVIDIA GeForce RTX 2080 SUPER=7.5", "610.57.04", "2.39")),  # cases 096
    # volta
    "v100-ubuntu-2204": Configuration(machine("Tesla V100-PCIE-32GB=7.0", "535.171.04", "2.35")),  # cases 004
    "v100-centos-7": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "535.129.03", "2.17")),  # cases 002
    "v100-debian-10-driver-450": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "450.51.06", "2.28")),  # cases 082
    "v100-driver-580-cuda-13": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "580.65.06"), Request(cuda="13.0")),
    "v100-torch-211": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "580.65.06"), Request(torch="2.11")),
    "v100-torch-213": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "580.65.06"), Request(torch="2.13")),
    "titan-v-driver-515": Configuration(machine("NVIDIA TITAN V=7.0", "515.65.01", "2.35")),  # cases 102
    # refused, and no GPU
    "gtx1080ti": Configuration(machine("NVIDIA GeForce GTX 1080 Ti=6.1", "535.171.04")),  # cases 012
    "gtx980m": Configuration(machine("GeForce GTX 980M=5.2", "396.44", "2.23")),  # cases 078
    "rtx3090-driver-440": Configuration(machine("NVIDIA GeForce RTX 3090=8.6", "440.33.01")),
    "l20y-unknown-capability": Configuration(machine("NVIDIA L20Y", "550.127.08", "2.32")),  # cases 030
    "cpu-node": Configuration(machine("", None, "2.36")),
    "cpu-node-index-only": Configuration(machine("", None, "2.36", pythons="3.11", dead=INDEX_ONLY)),
    "driver-not-running": Configuration(
        Machine(
            platform=Platform(os="Debian GNU/Linux 12", glibc="2.36", machine="x86_64", system="linux", wsl="no"),
            faults=(Fault("driver-not-running", "NVIDIA GPU on the PCI bus, no working driver: 10de:2684"),),
        )
    ),
    "wsl-1": Configuration(machine("", None, "2.35", wsl="1")),
    "windows": Configuration(machine("NVIDIA GeForce RTX 4090=8.9", "566.36", None, system="windows")),
    "windows-community": Configuration(
        machine("NVIDIA GeForce RTX 4090=8.9", "566.36", None, system="windows"), Request(allow_community=True)
    ),
    "macos": Configuration(machine("", None, None, processor="arm64", system="darwin")),
    "alpine": Configuration(Machine(platform=Platform(os="Alpine Linux v3.20", musl="1.2.5", machine="x86_64", system="linux"))),
    "ppc64le": Configuration(machine("Tesla V100-SXM2-32GB=7.0", "470.103.01", "2.28", processor="ppc64le")),
}
