"""The chosen draft written out as a plan, with the notes that its user should read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.knowledge import archs, drivers
from provisioner.machine.facts import Machine
from provisioner.planning.adapters import describe_kernels
from provisioner.planning.build_rules import compiled_archs, nvcc_for
from provisioner.planning.driver_rules import first_driver, needs_forward_compatibility, older_than_gpu
from provisioner.planning.estimates import estimates
from provisioner.planning.judging import would_plan
from provisioner.planning.kernels import UNSLOTH
from provisioner.planning.numbers import numbers
from provisioner.planning.requirements import conda_specs, cudart, requirements, uses_xformers, xformers_loads
from provisioner.planning.situation import nvidia
from provisioner.planning.values import BuildChoice, Candidate, FlashAttn, KernelSelection, Plan, Request, Route, Trust

if TYPE_CHECKING:
    from provisioner.planning.catalog import Catalog
    from provisioner.planning.judging import Judgement
    from provisioner.planning.situation import Situation
    from provisioner.planning.stock import Draft


def assemble(
    machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, candidates: tuple[Candidate, ...]
) -> Plan:
    """Return the plan of the best accepted draft."""
    here, draft, recipe = judgement.situation, judgement.accepted[0], judgement.recipes[0]
    kernels = (request.kernels or UNSLOTH) if draft.route is Route.SOURCE else None
    archs = tuple(arch.sm for arch in compiled_archs(here, draft))
    activation = {name: value for part in judgement.recipes for name, value in part.activation.items()}
    return Plan(
        recipe=recipe.name,
        overlays=tuple(part.name for part in judgement.recipes[1:]),
        route=draft.route,
        python=draft.python,
        torch=draft.torch.torch,
        cuda=draft.torch.cuda,
        flash_attn=flash_attn(draft, kernels, archs),
        xformers=draft.stack.xformers if uses_xformers(here, draft) and not request.only_flash_attn else None,
        triton=draft.stack.triton,
        torch_index=draft.torch.index,
        backend=here.backend,
        attention=attention(here, draft, recipe.attention.path, request),
        gpu_classes=tuple(cc.sm for cc in here.capabilities) if here.gpu_needed else (),
        requirements=requirements(here, draft, recipe, request),
        conda_specs=() if here.native_windows else conda_specs(here, draft, catalog),
        toolkit=nvcc_for(here, draft) if draft.compiles else None,
        cxx_standard=cxx_standard(draft) if draft.compiles else None,
        activation={**activation, **draft.stack.activation},
        driver_floor=driver_floor(here, draft),
        estimates=estimates(here, draft, kernels, archs),
        notes=tuple(dict.fromkeys(notes(machine, request, catalog, judgement, draft))),
        candidates=candidates,
    )


def flash_attn(draft: Draft, kernels: KernelSelection | None, archs: tuple[str, ...]) -> FlashAttn | None:
    """Return the flash-attn of a plan: the wheel, the release with what it will be compiled for, or the adapter with its kernels' source."""
    if draft.wheel is not None:
        wheel = draft.wheel
        held = tuple(arch.sm for arch in wheel.archs)
        return FlashAttn(wheel.version, wheel.url, wheel.sha256, held, wheel.filename, wheel.trust, wheel.kernels)
    if draft.release is not None:
        release = draft.release
        return FlashAttn(release.version, None, release.sha256, archs, release.filename, Trust.OFFICIAL, kernels)
    if draft.adapter is not None:
        source = draft.adapter.source
        return FlashAttn(
            draft.adapter.version,
            sha256=source.sha256 if source else None,
            archs=archs,
            filename=source.filename if source else None,
        )
    return None


def attention(here: Situation, draft: Draft, path: str | None, request: Request) -> str:
    """Return the attention path that will run: flash-attn, else what Unsloth takes, which is xformers where it is installed, else SDPA.

    Unsloth never takes the adapter below compute capability 8.0, so the adapter is the path only where Unsloth is left out.
    """
    if draft.route in (Route.WHEEL, Route.SOURCE):
        return "flash-attn"
    if draft.route is Route.SHIM and (request.only_flash_attn or draft.stack.trimmed):
        return "adapter"
    return "xformers" if path in ("xformers", "flash-attn") and uses_xformers(here, draft) and xformers_loads(draft) else "sdpa"


def cxx_standard(draft: Draft) -> int:
    """Return the C++ standard to compile with: torch's headers may ask for more than flash-attn's own setup.py."""
    return max(draft.source.cxx_standard if draft.source else 17, draft.torch.cxx_standard)


def driver_floor(here: Situation, draft: Draft) -> str | None:
    """Return the lowest driver that runs the plan, in the numbers of the column that applies."""
    if draft.torch.cuda is None or here.jetson or not here.gpu_needed:
        return None
    floors = [drivers.floor(draft.torch.cuda, windows=here.windows_driver), first_driver(here)]
    if draft.wheel is not None and draft.wheel.driver_cuda:
        floors.append(drivers.native_floor(draft.wheel.driver_cuda, windows=here.windows_driver))
    return max(filter(None, floors), key=drivers.parse)


def notes(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, draft: Draft) -> Iterator[str]:
    """Yield what the user should know about this plan on this machine, what changes something first."""
    here = judgement.situation
    yield from _assumptions(here, draft)
    yield from _gpus(machine, judgement, draft)
    if draft.route is Route.NONE and here.gpu_needed and here.key.major >= 8 and draft.torch.cuda:
        yield _left_out(machine, request, catalog, judgement, draft)
    yield from _flash_attn(here, draft)
    yield from _adapter(here, draft, request)
    yield from _packages(here, draft, request)
    if uses_xformers(here, draft) and not request.only_flash_attn and not xformers_loads(draft):
        yield (
            f"xformers {draft.stack.xformers} is built against CUDA {cudart(draft)}: beside this torch `import xformers.ops` works, but "
            f"its own operators do not load; {attention(here, draft, None, request)} is what runs."
        )
    if draft.torch.cuda:
        yield from _newer_lines(here)
    for recipe in judgement.recipes:
        yield from recipe.attention.notes


def _left_out(machine: Machine, request: Request, catalog: Catalog, judgement: Judgement, draft: Draft) -> str:
    """Return why flash-attn is not in a plan for a GPU of 8.0 or newer, and what runs instead."""
    here = judgement.situation
    path = attention(here, draft, "flash-attn", request)
    lacking = {code for other, (code, _) in judgement.rejected if other.release is not None}
    if "release-lacks-arch" in lacking <= {"release-lacks-arch", "torch-lacks-arch", "triton-lacks-arch"}:
        missing = ", ".join(cc.sm for cc in here.capabilities)
        return f"flash-attn is left out: no release of 2.x names {missing} in its setup.py. Unsloth runs on {path} there."
    builds = would_plan(machine, replace(request, build=BuildChoice.ALWAYS), catalog)
    why = "--explain says why, --build asks for it" if builds else "--explain says why"
    return (
        f"flash-attn is left out: no wheel that fits can be had here, and none is compiled ({why}). "
        f"Unsloth runs on {path} meanwhile; `provision install` adds flash-attn later."
    )


def _assumptions(here: Situation, draft: Draft) -> Iterator[str]:
    if here.native_windows:
        yield "provision makes no environments on Windows; pip installs these requirements and the wheel's URL there by hand."
    if here.assumed_gpu:
        newer = " and newer" if here.key.major >= 8 and not here.jetson else ""
        yield f"The GPU is not known; this plan is for compute capability {here.key}{newer}. Name it with --gpu to be sure."
    if here.driver_offers and draft.torch.cuda and not here.jetson:
        yield f"The driver's version is not known; it offers CUDA {here.driver_offers}, so it is taken for {here.driver} or newer."
    if here.gpu_needed and here.driver is None and draft.torch.cuda and not here.jetson:
        floor = driver_floor(here, draft)
        yield f"The driver is not known; this plan needs {floor} or newer."
    if needs_forward_compatibility(here, draft.torch.cuda):
        major = draft.torch.cuda.split(".")[0] if draft.torch.cuda else ""
        driver = f"A driver that offers CUDA {here.driver_offers}" if here.driver_offers else f"Driver {here.driver}"
        yield (
            f"{driver} is older than CUDA {major} asks for; on this data-centre GPU it runs with NVIDIA's "
            f"forward-compatibility package (cuda-compat-{(draft.torch.cuda or '').replace('.', '-')}) on the library path."
        )
    last = archs.arch(here.key)
    if here.gpu_needed and last is not None and last.last_branch is not None:
        yield f"{last.last_branch} is the last driver branch for {here.key.sm}: newer drivers do not see this GPU."
    if here.glibc is None and draft.wheel is not None and draft.wheel.glibc:
        floor = ".".join(str(number) for number in draft.wheel.glibc)
        yield f"The C library is not known; the wheel needs glibc {floor} or newer."


def _gpus(machine: Machine, judgement: Judgement, draft: Draft) -> Iterator[str]:
    here = judgement.situation
    if len(here.capabilities) > 1:
        classes = ", ".join(cc.sm for cc in here.capabilities)
        yield f"Mixed GPUs ({classes}): the plan serves all of them."
        better = [cc for cc in here.capabilities if cc.major >= 8]
        if better and here.key.major < 8:
            yield (
                f"{here.key.sm} decides here. For flash-attn on {', '.join(cc.sm for cc in better)}, plan for those alone "
                f"(--gpu {better[0].sm}) and show only them to the program with CUDA_VISIBLE_DEVICES."
            )
            if draft.route is Route.NONE and draft.stack.flash_attn:
                base = draft.stack.flash_attn[0].partition("+")[0]
                yield (
                    f"flash-attn's 2.x functions on all of them come with the adapter (--flash-attn {base}). It is not the default here: Unsloth "
                    "would run it on the newer GPU in place of what runs now, and fail there where a model softcaps (Gemma 2)."
                )
    if older_than_gpu(here, draft.torch.cuda) and not here.jetson:
        yield (
            f"CUDA {draft.torch.cuda} is older than {here.capabilities[-1].sm}: it runs there on an earlier GPU's kernels, and slower. "
            f"CUDA 13 knows it, and needs driver {drivers.floor('13.0', windows=here.windows_driver)} or newer."
        )
    for name in sorted({gpu.name or "a GPU" for gpu in nvidia(machine) if gpu.compute_capability is None}):
        yield f"The compute capability of {name} is not known; the plan is for the other GPUs. State it with --gpu sm_XX."
    if any(gpu.partition == "mig" for gpu in machine.gpus):
        yield "MIG: a process uses one instance, with the memory of that instance; its compute capability is the whole GPU's."
    if any(gpu.source == "name-guess" for gpu in machine.gpus):
        yield "The compute capability was looked up by the GPU's name; nvidia-smi --query-gpu=compute_cap confirms it."


def _flash_attn(here: Situation, draft: Draft) -> Iterator[str]:
    if draft.wheel is not None and draft.wheel.trust is Trust.COMMUNITY:
        yield "This flash-attn wheel was built by a third party; its maker is named in its URL."
    if draft.wheel is not None and draft.wheel.trust is Trust.WHEELHOUSE:
        yield "This wheel was built before and lies in your wheelhouse; a lock with it serves the machines that see that folder."
    if draft.wheel is not None and draft.wheel.sha256 is None:
        yield "The wheel's sha256 is not known beforehand; it is recorded when the wheel is first fetched."
    if draft.source is not None and draft.torch.cxx_standard > draft.source.cxx_standard:
        yield (
            f"torch {draft.torch.torch} needs C++{draft.torch.cxx_standard}; flash-attn {draft.source.version} asks for "
            f"C++{draft.source.cxx_standard}, so its setup is patched."
        )
    if draft.stack.ignore_xformers_range:
        yield "xformers' flash-attn check is switched off at activation; without the activation `import xformers.ops` fails."
    if draft.route is Route.SOURCE and here.jetson:
        yield "The compiler is JetPack's own CUDA toolkit; three jobs at once need about 64 GB on an Orin, so use fewer."


def _adapter(here: Situation, draft: Draft, request: Request) -> Iterator[str]:
    if draft.adapter is None:
        return
    yield (
        f"flash-attn {draft.adapter.version} is an adapter: the functions of flash-attn 2.x over {describe_kernels(draft.adapter)}, so "
        'transformers\' attn_implementation="flash_attention_2" works here. What the adapter lacks (softcap, for one) raises an error.'
    )
    newer = ", ".join(cc.sm for cc in here.capabilities if cc.major >= 8)
    if newer and not request.only_flash_attn:
        yield f"On {newer} Unsloth takes the adapter as well, and models with a softcap (Gemma 2) fail there; without it they run."


def _newer_lines(here: Situation) -> Iterator[str]:
    """FlashAttention 3 and 4 where they apply; offered, never part of a plan (research: hopper/setup.py, flash-attn-4's README)."""
    if here.assumed_gpu or not here.gpu_needed:
        return
    majors = {capability.major for capability in here.capabilities}
    if 9 in majors:
        yield "FlashAttention 3 (package flash_attn_3) has its best kernels for sm_90; Unsloth does not need it, so it is left out."
    if majors & {9, 10, 11, 12}:
        yield "FlashAttention 4 (package flash-attn-4, in beta) is for Hopper and Blackwell; Unsloth does not need it, so it is left out."


def _packages(here: Situation, draft: Draft, request: Request) -> Iterator[str]:
    if draft.stack.trimmed and here.jetson:
        yield (
            "torch comes from NVIDIA's Jetson index (jetson-ai-lab, jp6/cu126: JetPack 6). Unsloth is left out: its bitsandbytes has no "
            "sm_87 kernels and must be built on the board."
        )
    elif draft.stack.trimmed and here.glibc and here.glibc < (2, 28):
        have = ".".join(str(number) for number in here.glibc)
        yield f"glibc {have}: xformers has no wheel below 2.28, so Unsloth is left out; a container with a newer system serves it."
    elif draft.stack.trimmed and not request.only_flash_attn:
        yield f"torch {draft.torch.torch} is older than Unsloth takes (2.4), so Unsloth is left out."
    if here.processor == "aarch64" and not here.jetson and draft.torch.cuda:
        yield "xformers has no aarch64 wheels, and Unsloth does not ask for it there."
    if (
        here.backend == "venv"
        and draft.torch.cuda
        and here.gpu_needed
        and here.compilers == ()
        and draft.route is not Route.SOURCE
    ):
        yield "Triton compiles a small C helper at run time: install gcc."
    if here.key.major == 7 and here.key.minor == 0 and draft.torch.cuda and numbers(draft.torch.torch) >= (2, 8):
        yield "Triton's authors support compute capability 8.0 and newer; it still compiles for sm_70 but is not tested there."
