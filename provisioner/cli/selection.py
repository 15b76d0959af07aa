"""Which machine and which versions a command is about: the selection options, resolved to values."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from provisioner.cli.pins import EXAMPLES, pin, torch_pins
from provisioner.errors import NoRoute, UsageError
from provisioner.machine.facts import Driver, Gpu, Machine, Platform
from provisioner.planning.values import BuildChoice, KernelSelection, Request

F = TypeVar("F", bound=Callable[..., Any])

GPU_FACTS = ("gpus", "driver.version", "driver.cuda")
HOST_FAULTS = frozenset({"no-gpu", "mig-without-instance"})
"""Faults about GPUs of this host, which say nothing about the machine that `--gpu` describes; see `_for_gpus`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The machine that is meant, what is asked for, and the folders of further recipes."""

    machine: Machine
    request: Request
    recipe_dirs: tuple[Path, ...] = ()


OPTIONS = (
    click.option("--gpu", "gpus", multiple=True, metavar="NAME|sm_XX", help="Plan for this GPU (repeatable)."),
    click.option("--driver", metavar="VERSION", help="Plan for this NVIDIA driver, e.g. 535.104.05."),
    click.option(
        "--machine",
        "machine_path",
        type=click.Path(path_type=Path),
        metavar="FILE|DIR",
        help="Plan for a machine from `provision detect --json` or `provision capture`.",
    ),
    click.option("--wsl", is_flag=True, help="Plan for WSL 2 (the driver has its Windows number)."),
    click.option("--glibc", metavar="VERSION", help="Plan for this glibc, e.g. 2.31."),
    click.option("--python", "python_version", metavar="X.Y", help="Use this Python version."),
    click.option("--torch", metavar="VERSION", help="Use this torch, e.g. 2.9 or 2.9.1."),
    click.option("--cuda", metavar="X.Y", help="Use this CUDA version."),
    click.option("--flash-attn", metavar="VERSION", help="Use this flash-attn."),
    click.option("--recipe", metavar="NAME", help="Use this recipe instead of the one that the GPU picks."),
    click.option("--backend", type=click.Choice(["conda", "venv"]), help="How the environment is made."),
    click.option("--build/--no-build", default=None, help="Compile flash-attn in any case, or never."),
    click.option("--kernels", type=click.Choice(["full", "unsloth"]), help="Which kernels a build contains."),
    click.option("--head-dims", metavar="N,N", help="Compile these head dims only, e.g. 64,128."),
    click.option("--dtypes", metavar="T,T", help="Compile these dtypes only: fp16, bf16."),
    click.option("--features", metavar="F,F", help="Compile these features only: backward, varlen, local, softcap, …"),
    click.option("--allow-community", is_flag=True, help="Accept flash-attn wheels that third parties built."),
    click.option("--only", type=click.Choice(["flash-attn"]), help="Leave Unsloth and its packages out."),
    click.option("--with", "packages", multiple=True, metavar="PKG", help="Install this as well (repeatable)."),
    click.option(
        "--recipes",
        "recipe_dirs",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Read further recipes from this folder (repeatable).",
    ),
)


def selecting(function: F) -> F:
    """Add the selection options; the command gets ``selection: Selection``. Stands above ``@speaking``."""

    @functools.wraps(function)
    def wrapper(
        *args: Any,
        gpus: tuple[str, ...],
        driver: str | None,
        machine_path: Path | None,
        wsl: bool,
        glibc: str | None,
        recipe_dirs: tuple[Path, ...],
        **rest: Any,
    ) -> Any:
        request, others = _take_request(rest)
        machine = select_machine(gpus, driver=driver, path=machine_path, wsl=wsl, glibc=glibc)
        return function(*args, selection=Selection(machine, request, recipe_dirs), **others)

    decorated: Any = wrapper
    for option in reversed(OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def select_machine(
    gpus: tuple[str, ...] = (),
    *,
    driver: str | None = None,
    path: Path | None = None,
    wsl: bool = False,
    glibc: str | None = None,
) -> Machine:
    """Return the machine that is meant: this host or the one in ``path``, with GPUs, driver and platform as stated.

    Raise `UsageError` for an unknown GPU (with near names) and for versions that are none.
    """
    named = tuple(gpu_named(name) for name in gpus)
    stated = driver_version(driver) if driver is not None else None
    machine = _base(path)
    if named:
        machine = _for_gpus(machine, named, stated)
    elif stated is not None:
        machine = replace(machine, driver=Driver(version=stated), origins={**machine.origins, "driver.version": "user"})
    if wsl:
        platform = replace(machine.platform, wsl="2", system="linux", jetson=None)
        machine = replace(machine, platform=platform, origins={**machine.origins, "platform.wsl": "user"})
    if glibc is not None:
        if not re.fullmatch(r"2\.\d{1,2}", glibc):
            raise UsageError(f"not a glibc version: {glibc}", hints=["write it as `ldd --version` does, e.g. 2.31"])
        platform = replace(machine.platform, glibc=glibc, musl=None)
        machine = replace(machine, platform=platform, origins={**machine.origins, "platform.glibc": "user"})
    return machine


def machine_for(machine: Machine, gpus: tuple[str, ...]) -> Machine:
    """Return ``machine`` with these GPUs, by name or architecture, and the driver that it has."""
    return _for_gpus(machine, tuple(gpu_named(name) for name in gpus), machine.driver.version)


def gpu_named(name: str) -> Gpu:
    """Return the GPU that a name or an architecture means. Raise `UsageError` with near names for an unknown one."""
    from provisioner.capability import ComputeCapability
    from provisioner.knowledge import archs, gpus

    text = name.strip()
    if re.fullmatch(r"(sm_?|compute_?)\d{2,3}[af]?|\d{1,2}\.\d", text, re.IGNORECASE):
        capability = ComputeCapability.parse(text)
        if archs.arch(capability) is None:
            known = ", ".join(arch.capability.sm for arch in archs.archs() if arch.capability >= (7, 0))
            raise UsageError(f"no GPU has the architecture {name}", hints=[f"known: {known}"], code="unknown-gpu")
        return Gpu(compute_capability=str(capability), source="user")
    model = gpus.find_gpu(text)
    if model is None:
        if text.lower() in ("none", "no", "cpu"):
            raise UsageError(f"--gpu {name} is no GPU", hints=["for a machine without one: --recipe cpu"], code="unknown-gpu")
        _refuse_other_makers(name)
        near = gpus.suggest(text)
        hints = [f"did you mean {', '.join(near)}?"] if near else []
        hints.append(
            f"{'or ' if near else ''}state its architecture: --gpu sm_90 (nvidia-smi --query-gpu=compute_cap --format=csv)"
        )
        raise UsageError(f"no GPU is known as {name!r}", hints=hints, code="unknown-gpu")
    return Gpu(model.name, model.compute_capability, model.memory_mib, source="user")


OTHER_MAKERS = {
    "AMD": "radeon|instinct|amd|mi[23]\\d{2}[xa]?",
    "Intel": "intel|arc|gaudi",
    "Apple": "apple|m[1-5] (pro|max|ultra)",
}


def _refuse_other_makers(name: str) -> None:
    """Raise `NoRoute` for a GPU that another maker's name gives away."""
    for maker, words in OTHER_MAKERS.items():
        if re.search(rf"\b({words})\b", name, re.IGNORECASE):
            raise NoRoute(
                f"{name} is {'an' if maker[0] in 'AI' else 'a'} {maker} GPU, and every route here is for CUDA",
                why="flash-attn for ROCm is built from its source there (Composable Kernel or Triton)"
                if maker == "AMD"
                else None,
                hints=["name an NVIDIA GPU: --gpu 'RTX 4090'"],
                code="rocm" if maker == "AMD" else "not-nvidia",
            )


def driver_version(text: str) -> str:
    """Return an NVIDIA driver version as given. Raise `UsageError` for anything else."""
    text = text.strip()
    if not re.fullmatch(r"[1-9]\d{2}(\.\d{1,3}){0,2}", text):
        raise UsageError(f"not an NVIDIA driver version: {text!r}", hints=["write it as nvidia-smi does, e.g. 535.104.05"])
    return text


def _base(path: Path | None) -> Machine:
    if path is not None:
        from provisioner.machine.capture import read_machine

        return read_machine(path)
    from provisioner.machine.probe import probe

    return probe()


def _for_gpus(machine: Machine, gpus: tuple[Gpu, ...], driver: str | None) -> Machine:
    """Return the machine with other GPUs: what is known of its own GPUs, their driver and their faults is dropped.

    Where they are some of its own, the driver stays.
    """
    from provisioner.planning.refusals import BROKEN

    faults = tuple(fault for fault in machine.faults if fault.code not in HOST_FAULTS and fault.code not in BROKEN)
    kept = driver is None and all(_is_of(machine, gpu) for gpu in gpus)
    machine = _with_processor(machine, gpus)
    origins = {name: source for name, source in machine.origins.items() if kept or name not in GPU_FACTS}
    origins["gpus"] = "user"
    if driver is not None:
        origins["driver.version"] = "user"
    return replace(
        machine,
        gpus=gpus,
        driver=machine.driver if kept else Driver(version=driver),
        faults=faults,
        origins=origins,
        cuda_visible_devices=None,
    )


def _is_of(machine: Machine, gpu: Gpu) -> bool:
    """Say whether an architecture, named alone, means GPUs that the machine has, so that its driver is theirs: some of several, or one of
    which nothing but the model is known."""
    own = {one.compute_capability for one in machine.gpus}
    return gpu.name is None and (gpu.compute_capability in own or None in own)


def _with_processor(machine: Machine, gpus: tuple[Gpu, ...]) -> Machine:
    """Return the machine with the processor that these GPUs come with; this host's own software says nothing about that one."""
    wanted = "aarch64" if all(_comes_with_arm(gpu) for gpu in gpus) else None
    if wanted is None or machine.platform.machine == wanted:
        return machine
    platform = Platform(machine=wanted, system="linux", wsl="no")
    return replace(
        machine, platform=platform, pythons=(), compilers=(), toolkits=(), conda=(), origins={"platform.machine": "user"}
    )


def _comes_with_arm(gpu: Gpu) -> bool:
    """Say whether a GPU exists on aarch64 boards only: Jetson, Grace superchips, GB10 (NVIDIA product pages, 2026-11-24)."""
    named = (gpu.name or "").upper().startswith(("GH200", "GB200", "GB300", "GB10", "JETSON"))
    return named or gpu.compute_capability in ("5.3", "6.2", "7.2", "8.7", "11.0", "12.1")


def _take_request(options: dict[str, Any]) -> tuple[Request, dict[str, Any]]:
    """Split the options into the request and what belongs to the command."""
    rest = dict(options)
    take = rest.pop
    build = take("build")
    kernels = kernels_of(take("kernels"), take("head_dims"), take("dtypes"), take("features"))
    if kernels is not None and build is False:
        raise UsageError(
            "a choice of kernels means compiling, and --no-build forbids it",
            hints=["leave --no-build away", "leave --kernels, --head-dims, --dtypes and --features away"],
        )
    torch, cuda = torch_pins(pin(take("torch"), "--torch"), pin(take("cuda"), "--cuda"))
    request = Request(
        python=pin(take("python_version"), "--python"),
        torch=torch,
        cuda=cuda,
        flash_attn=pin(take("flash_attn"), "--flash-attn"),
        recipe=take("recipe"),
        backend=take("backend"),
        build={True: BuildChoice.ALWAYS, False: BuildChoice.NEVER, None: BuildChoice.AUTO}[build],
        kernels=kernels,
        allow_community=take("allow_community"),
        offline=rest.get("offline", False),
        only_flash_attn=take("only") == "flash-attn",
        packages=tuple(_requirement(text) for text in take("packages")),
    )
    return request, rest


def kernels_of(preset: str | None, head_dims: str | None, dtypes: str | None, features: str | None) -> KernelSelection | None:
    """Return the kernels that the options ask for, None when they ask for none. Raise `UsageError` for an unknown one."""
    from provisioner.planning.kernels import kernel_selection

    return kernel_selection(preset, _numbers(head_dims, "--head-dims"), _words(dtypes), _words(features))


def _requirement(text: str) -> str:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        name = canonicalize_name(Requirement(text).name)
    except InvalidRequirement as error:
        raise UsageError(
            f"--with needs a requirement, not {text!r}",
            why=str(error).splitlines()[0],
            hints=["for example --with wandb --with 'datasets>=3'"],
        ) from error
    if (option := CHOSEN.get(name)) is not None:
        raise UsageError(
            f"--with {text}: the plan itself chooses {name}",
            why="the resolver would take one of its own choice, which need not fit the rest",
            hints=[f"say which: --{option} {EXAMPLES[f'--{option}']}" + ("" if option == name else f", which {name} belongs to")],
        )
    return text


CHOSEN = {"torch": "torch", "flash-attn": "flash-attn", "xformers": "torch", "triton": "torch"}
"""What the plan chooses, with the option that decides it."""


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _numbers(text: str | None, option: str) -> tuple[int, ...]:
    words = _words(text)
    if not all(word.isascii() and word.isdigit() for word in words):
        raise UsageError(f"{option} needs numbers, not {text!r}", hints=[f"for example {option} 64,128"])
    return tuple(int(word) for word in words)
