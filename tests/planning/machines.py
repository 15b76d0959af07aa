"""Machines for the tests of planning: real configurations by name, and plausible ones at random."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from provisioner.machine.facts import Driver, Gpu, HostCompiler, Machine, Platform, PythonInstall, Source
from provisioner.planning.values import BuildChoice, KernelSelection, Request

CHANNEL, INDEX, TORCH, RELEASES = (
    ("conda-channel", "https://channel.example"),
    ("package-index", "https://index.example"),
    ("torch-index", "https://torch.example"),
    ("releases", "https://releases.example"),
)


def machine(
    gpus: str = "",
    driver: str | None = None,
    glibc: str | None = "2.35",
    *,
    wsl: str = "no",
    processor: str = "x86_64",
    pythons: str = "",
    headers: bool = True,
    gcc: str | None = None,
    dead: str = "",
    jetson: str | None = None,
    system: str = "linux",
) -> Machine:
    """Return a machine. ``gpus`` reads ``"Tesla T4=7.5, A100=8.0"``; ``dead`` names the sources that do not answer."""
    devices = tuple(
        Gpu(name.strip(), capability.strip() or None)
        for name, _, capability in (part.partition("=") for part in gpus.split(",") if part)
    )
    sources = (
        tuple(Source(name, name not in dead.split(), url) for name, url in (CHANNEL, INDEX, TORCH, RELEASES)) if dead else ()
    )
    return Machine(
        gpus=devices,
        driver=Driver(version=driver),
        platform=Platform(os="Linux", glibc=glibc, wsl=wsl, machine=processor, system=system, kernel="6.1", jetson=jetson),
        pythons=tuple(PythonInstall(f"/usr/bin/python{version}", f"{version}.4", headers) for version in pythons.split()),
        compilers=(HostCompiler("gcc", "/usr/bin/g++", gcc),) if gcc else (),
        sources=sources,
    )


@dataclass(frozen=True, slots=True)
class Class:
    """A class of GPUs with the drivers and processors that it is found with."""

    name: str
    capability: str
    drivers: tuple[str, ...]
    processor: str = "x86_64"


OLD = ("418.87.00", "440.33.01", "450.80.02", "460.32.03", "470.103.01", "470.223.02", "510.54", "515.65.01", "520.61.05")
NEW = ("525.60.13", "530.30.02", "535.104.05", "545.23.08", "550.54.15", "560.35.03", "570.26", "575.51.03")
NEWEST = ("570.124.06", "580.65.06", "580.95.05", "590.48.01", "610.43.02")

CLASSES = (
    Class("Tesla P100-PCIE-16GB", "6.0", OLD + NEW),
    Class("NVIDIA GeForce GTX 1080 Ti", "6.1", OLD + NEW),
    Class("Tesla V100-SXM2-32GB", "7.0", OLD + NEW + NEWEST),
    Class("NVIDIA TITAN V", "7.0", OLD + NEW),
    Class("Tesla T4", "7.5", OLD + NEW + NEWEST),
    Class("NVIDIA GeForce RTX 2080 Ti", "7.5", OLD + NEW + NEWEST),
    Class("NVIDIA A100-SXM4-80GB", "8.0", OLD[2:] + NEW + NEWEST),
    Class("NVIDIA GeForce RTX 3090", "8.6", OLD[3:] + NEW + NEWEST),
    Class("NVIDIA A10", "8.6", OLD[4:] + NEW + NEWEST),
    Class("NVIDIA GeForce RTX 4090", "8.9", NEW + NEWEST),
    Class("NVIDIA L4", "8.9", OLD[6:] + NEW + NEWEST),
    Class("NVIDIA H100 80GB HBM3", "9.0", NEW + NEWEST),
    Class("NVIDIA GH200 480GB", "9.0", NEW[4:] + NEWEST, "aarch64"),
    Class("NVIDIA B200", "10.0", NEWEST),
    Class("NVIDIA GB200", "10.0", NEWEST, "aarch64"),
    Class("NVIDIA B300", "10.3", NEWEST[1:]),
    Class("NVIDIA GeForce RTX 5090", "12.0", NEWEST),
    Class("NVIDIA GB10", "12.1", NEWEST[1:], "aarch64"),
    Class("NVIDIA Thor", "11.0", NEWEST[1:], "aarch64"),
    Class("Orin (nvgpu)", "8.7", ("540.4.0",), "aarch64"),
)
WINDOWS_DRIVERS = ("452.39", "472.12", "516.94", "528.33", "531.14", "537.13", "551.61", "560.94", "566.36", "572.61", "581.29")
OFFERED = ("11.2", "11.4", "11.8", "12.0", "12.2", "12.4", "12.7", "12.8", "13.0", "13.9")
GLIBCS = ("2.17", "2.26", "2.27", "2.28", "2.31", "2.32", "2.34", "2.35", "2.36", "2.39", "2.41", None)
SOURCES = (
    "",
    "",
    "",
    "",
    "conda-channel",
    "conda-channel releases",
    "torch-index",
    "releases",
    "conda-channel releases torch-index",
)


def random_machine(chance: random.Random) -> Machine:
    """Return a plausible machine: GPUs of one class or a mix, a driver that such machines have, a system, sources."""
    if chance.random() < 0.04:
        return machine("", None, chance.choice(GLIBCS), pythons="3.11", dead=chance.choice(SOURCES))
    kind = chance.choice(CLASSES)
    kinds = [kind]
    if kind.processor == "x86_64" and chance.random() < 0.15:
        kinds.append(chance.choice([other for other in CLASSES if other.processor == "x86_64"]))
    known = [driver for driver in kinds[-1].drivers if all(driver in other.drivers for other in kinds)] or list(NEWEST)
    wsl = kind.processor == "x86_64" and chance.random() < 0.15
    driver = chance.choice(WINDOWS_DRIVERS) if wsl else chance.choice(known)
    jetson = "36.4.3" if kind.capability == "8.7" else "38.2" if kind.capability == "11.0" else None
    stated = chance.random()
    box = machine(
        ",".join(f"{one.name}={one.capability}" for one in kinds),
        None if stated < 0.08 else driver,
        chance.choice(GLIBCS),
        wsl="2" if wsl else "no",
        processor=kind.processor,
        pythons=chance.choice(("", "3.11", "3.12", "3.10 3.12", "3.9", "3.14")),
        headers=chance.random() < 0.8,
        gcc=chance.choice((None, "11.4", "12.2", "13.2", "15.1")),
        dead=chance.choice(SOURCES),
        jetson=jetson,
    )
    return replace(box, driver=Driver(cuda=chance.choice(OFFERED))) if stated < 0.04 else box


def random_request(chance: random.Random) -> Request:
    """Return a request: mostly nothing, sometimes pins, kernels, a backend or a wish about building."""
    request = Request()
    if chance.random() < 0.5:
        return request
    if chance.random() < 0.3:
        request = replace(
            request, torch=chance.choice(("2.4", "2.5.1", "2.6", "2.7", "2.8.0", "2.9", "2.10", "2.11", "2.13", "2.14.1", "9.9"))
        )
    if chance.random() < 0.2:
        request = replace(request, cuda=chance.choice(("11.8", "12.1", "12.4", "12.6", "12.8", "13.0", "13.2")))
    if chance.random() < 0.3:
        request = replace(request, python=chance.choice(("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")))
    if chance.random() < 0.2:
        request = replace(request, flash_attn=chance.choice(("2.7.4.post1", "2.8.3", "2.8.1", "2.8.3.post2", "2.6.3", "1.0.9")))
    if chance.random() < 0.2:
        request = replace(request, build=chance.choice(tuple(BuildChoice)))
    if chance.random() < 0.1 and request.build is not BuildChoice.NEVER:
        request = replace(request, kernels=KernelSelection("custom", (128,), ("bf16",)))
    return replace(
        request,
        backend=chance.choice((None, None, "conda", "venv")),
        allow_community=chance.random() < 0.3,
        offline=chance.random() < 0.1,
        only_flash_attn=chance.random() < 0.1,
    )
