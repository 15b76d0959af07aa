"""Every way that a recipe considers, before any machine is looked at.

Drafts depend on the recipe, the processor and the versions asked for alone, so `Catalog` keeps them between plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from provisioner.planning import adapters
from provisioner.planning.numbers import covers, minor, numbers
from provisioner.planning.recipe import DEFAULT_TRUST, UNSLOTH_TORCH, Stack
from provisioner.planning.stock import AdapterStock, Draft, ReleaseStock, TorchStock, WheelStock
from provisioner.planning.values import Request, Route, Trust

if TYPE_CHECKING:
    from provisioner.capability import ComputeCapability
    from provisioner.planning.catalog import Catalog

PYTHONS = ("3.12", "3.11", "3.13", "3.10", "3.14")
"""The order in which Pythons are tried for versions that the user names himself; an older one is taken where that is named too."""


def listed(catalog: Catalog, stacks: Sequence[Stack], platform: str | None, processor: str) -> Iterator[Draft]:
    """Yield the drafts of a recipe's stacks for one kind of machine (``platform`` is jetson, windows or None)."""
    for place, stack in enumerate(stacks):
        if stack.platform == platform and (torch := catalog.torch(stack, processor)) is not None:
            yield from of_stack(catalog, stack, torch, place, processor)


def of_stack(catalog: Catalog, stack: Stack, torch: TorchStock, place: int, processor: str) -> Iterator[Draft]:
    """Yield the drafts of one stack: each Python with each flash-attn that exists for it."""
    for position, python in enumerate(stack.pythons):
        if stack.route in (Route.WHEEL, Route.SOURCE):
            for wheel, preference in _wheels(catalog, stack, python, processor):
                yield Draft(
                    wheel_id(wheel),
                    Route.WHEEL,
                    stack,
                    torch,
                    python,
                    (place, position, preference),
                    wheel=wheel,
                    summary=wheel_summary(wheel),
                )
        if stack.route is Route.WHEEL:
            continue
        if stack.route is Route.SOURCE:
            for release, preference in _releases(catalog, stack):
                name = f"source:{release.version}/torch{torch_label(torch)}-{tag(python)}{_trimmed(stack)}"
                yield Draft(
                    name,
                    Route.SOURCE,
                    stack,
                    torch,
                    python,
                    (place, position, preference),
                    release=release,
                    summary=source_summary(release, torch),
                )
        else:
            for stock, preference in _adapters(catalog, stack):
                name = f"shim:{stock.version}/torch{torch_label(torch)}-{tag(python)}{_trimmed(stack)}"
                order = (place, position, preference)
                summary = shim_summary(stock, torch)
                yield Draft(name, Route.SHIM, stack, torch, python, order, adapter=stock, summary=summary)
            name = f"none:torch{torch_label(torch)}-{tag(python)}{_trimmed(stack)}"
            yield Draft(name, Route.NONE, stack, torch, python, (place, position, 0), summary=none_summary(stack, torch))


def _trimmed(stack: Stack) -> str:
    return "-trimmed" if stack.trimmed else ""


def _wheels(catalog: Catalog, stack: Stack, python: str, processor: str) -> Iterator[tuple[WheelStock, int]]:
    """Yield a stack's wheels; where it compiles, those that were compiled before: the ones of the own wheelhouse."""
    system = "windows" if stack.platform == "windows" else "linux"
    look_up = catalog.wheels if stack.route is Route.WHEEL else catalog.own_wheels
    for preference, version in enumerate(stack.flash_attn):
        for wheel in look_up(version, minor(stack.torch), tag(python), processor, system):
            if wheel.trust in stack.trust and same_cuda(wheel, stack.cuda):
                yield wheel, preference


def _releases(catalog: Catalog, stack: Stack) -> Iterator[tuple[ReleaseStock, int]]:
    for preference, version in enumerate(stack.flash_attn):
        if (release := catalog.release(version)) is not None:
            yield release, preference


def _adapters(catalog: Catalog, stack: Stack) -> Iterator[tuple[AdapterStock, int]]:
    for preference, version in enumerate(stack.flash_attn):
        if (stock := adapters.adapter(catalog, version)) is not None:
            yield stock, preference


def pinned(catalog: Catalog, request: Request, stacks: Sequence[Stack], processor: str) -> Iterator[Draft]:
    """Yield drafts beyond a recipe's own stacks, for versions that the user names: any torch build with any flash-attn of the recipe's routes.

    They stand behind the recipe's own. A torch that is too old for Unsloth is considered only where it is named.
    """
    python = minor(request.python) if request.python else None
    known = {(stack.route, stack.torch, stack.cuda) for stack in stacks if python is None or python in stack.pythons}
    kernels = adapters.offered(tuple(version for stack in stacks if stack.route is Route.SHIM for version in stack.flash_attn))
    place = len(stacks)
    for torch in catalog.torch_builds(request.torch, request.cuda, processor):
        if request.torch is None and numbers(torch.torch) < UNSLOTH_TORCH:
            continue
        for route in pinned_routes(stacks, torch):
            new = (route, torch.torch, torch.cuda) not in known
            if new or (request.flash_attn and route is not Route.NONE):
                place += 1
                stack = derived(catalog, torch, route, request, kernels)
                yield from of_stack(catalog, stack, torch, place, processor)


def pinned_routes(stacks: Sequence[Stack], torch: TorchStock) -> tuple[Route, ...]:
    """Return the routes to try beside a torch that the user names: those that the recipe knows for its GPUs."""
    offered = {stack.route for stack in stacks}
    if Route.SHIM in offered:
        return (Route.SHIM,) if adapters.serves(torch.torch) else (Route.NONE,)
    return (Route.WHEEL, Route.SOURCE) if offered & {Route.WHEEL, Route.SOURCE} else (Route.NONE,)


def derived(catalog: Catalog, torch: TorchStock, route: Route, request: Request, kernels: tuple[str, ...]) -> Stack:
    """Return the stack for a torch build that no recipe lists: its Pythons, its partners, and flash-attn newest first."""
    wanted = (minor(request.python),) if request.python else PYTHONS
    pythons = tuple(python for python in wanted if python in torch.pythons)
    partner = catalog.partners(torch.torch)
    if route is Route.SHIM:
        versions = adapters.versions(catalog, kernels, partner.xformers, request.flash_attn)
    else:
        versions = catalog.versions(route, partner.xformers, request.flash_attn)
    return Stack(
        route=route,
        torch=torch.torch,
        cuda=torch.cuda,
        pythons=pythons,
        flash_attn=versions,
        xformers=partner.xformers,
        triton=partner.triton,
        torch_index=None,
        trust=(*DEFAULT_TRUST, Trust.COMMUNITY),
        trimmed=numbers(torch.torch) < UNSLOTH_TORCH,
    )


def pins_versions(request: Request, stacks: Sequence[Stack]) -> bool:
    """Say whether the user names a version that a recipe may not list; a Python alone only where no stack has it."""
    listed_python = request.python is None or any(minor(request.python) in stack.pythons for stack in stacks)
    return bool(request.torch or request.cuda or request.flash_attn) or not listed_python


def same_cuda(wheel: WheelStock, torch: str | None) -> bool:
    """Say whether a wheel's CUDA fits a torch build's.

    Official names state the major (``cu12``), or before 2.7 the release that built them (``cu122`` for every torch with CUDA 12: setup.py
    of 2.5.8); within a major the runtime is compatible. A third party names its torch build's CUDA exactly.
    """
    if torch is None or not wheel.cuda:
        return False
    stated = wheel.cuda[:1] if wheel.trust is Trust.OFFICIAL else wheel.cuda
    return numbers(torch)[: len(stated)] == stated


def wheel_id(wheel: WheelStock) -> str:
    """Return a readable name that is unique in a plan, such as ``wheel:2.8.3+cu12torch2.9-cp312``.

    The community has many wheels twice: as they were built, and audited for an older glibc, which the name then says.
    """
    cuda = "".join(str(number) for number in wheel.cuda)
    abi = "" if wheel.abi is None else f"cxx11abi{str(wheel.abi).upper()}"
    origin = "" if wheel.trust is Trust.OFFICIAL else f"@{wheel.trust}" + (f".{wheel.key[:8]}" if wheel.key else "")
    audited = f".glibc{wheel.glibc[0]}.{wheel.glibc[1]}" if origin and wheel.glibc and "manylinux" in wheel.filename else ""
    return f"wheel:{wheel.version}+cu{cuda}torch{wheel.torch}{abi}-{wheel.python}{origin}{audited}"


def wheel_summary(wheel: WheelStock) -> str:
    """Return what an accepted wheel is, in a line."""
    held = _sms(wheel.archs)
    floor = f", glibc {wheel.glibc[0]}.{wheel.glibc[1]}" if wheel.glibc else ""
    hashed = "" if wheel.sha256 else ", sha256 not known beforehand"
    if wheel.kernels is not None:
        dims = ", ".join(str(dim) for dim in wheel.kernels.head_dims)
        hashed = f"; head dims {dims}; {', '.join(wheel.kernels.dtypes)}"
    return f"{wheel.trust} wheel for torch {wheel.torch}: {held}{floor}{hashed}"


@lru_cache(maxsize=256)
def _sms(archs: tuple[ComputeCapability, ...]) -> str:
    return ", ".join(arch.sm for arch in archs)


def source_summary(release: ReleaseStock, torch: TorchStock) -> str:
    """Return what an accepted build is, in a line."""
    return f"flash-attn {release.version} compiled here against torch {torch_label(torch)}"


def shim_summary(stock: AdapterStock, torch: TorchStock) -> str:
    """Return what an accepted adapter is, in a line."""
    return f"the 2.x adapter over {adapters.describe_kernels(stock)}, beside torch {torch_label(torch)}"


def none_summary(stack: Stack, torch: TorchStock) -> str:
    """Return what an accepted stack without flash-attn is, in a line."""
    with_xformers = f" with xformers {stack.xformers}" if stack.xformers else ""
    return f"torch {torch_label(torch)}{with_xformers}, without flash-attn"


def torch_label(torch: TorchStock) -> str:
    """Return torch's version with its CUDA, e.g. ``2.13.0+cu130``."""
    return f"{torch.torch}+cu{torch.cuda.replace('.', '')}" if torch.cuda else f"{torch.torch}+cpu"


@lru_cache(maxsize=64)
def tag(python: str) -> str:
    """Return ``cp312`` for ``"3.12"``."""
    return "cp" + minor(python).replace(".", "")


def wants(pin: str | None, version: str | None) -> bool:
    """Say whether a pin allows a version; no pin allows all."""
    return pin is None or (version is not None and covers(pin, version))
