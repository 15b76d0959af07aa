"""Everything that planning knows, loaded once: the facts of `provisioner.knowledge` and the recipes, indexed for speed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path

from msgspec import structs

from provisioner.building.releases import COMPILED
from provisioner.capability import ComputeCapability
from provisioner.knowledge import archs, compilers, flash_attn, packages, torch_builds, wheel_index
from provisioner.planning import drafts
from provisioner.planning.flaws import flaw
from provisioner.planning.numbers import minor, numbers
from provisioner.planning.own_wheels import read_wheelhouse
from provisioner.planning.recipe import Recipe, Stack
from provisioner.planning.recipes import load_recipes
from provisioner.planning.stock import Draft, Partners, ReleaseStock, TorchStock, WheelStock
from provisioner.planning.values import Request, Route, Trust

TORCH_MIB = {None: 200, "11": 870, "12": 870, "13": 520}
"""Size of torch's own wheel by CUDA major (package index, 2.6 to 2.14, read 2026-11-24)."""

NEWEST_TRIED = 6
"""How many flash-attn releases are tried for versions that no recipe lists."""


class Catalog:
    """Recipes, torch builds, wheels and releases. Look-ups are remembered; nothing here changes after loading.

    ``own`` are the wheels of the user's wheelhouse.
    """

    def __init__(self, recipes: Sequence[Recipe], wheels: wheel_index.WheelIndex, own: Sequence[WheelStock] = ()) -> None:
        self.recipes = tuple(recipes)
        self.wheel_index = wheels
        self.own = tuple(own)
        self._own: dict[tuple[str, str, str, str, str], list[WheelStock]] = {}
        for wheel in own:
            self._own.setdefault((wheel.version, wheel.torch, wheel.python, wheel.processor, wheel.system), []).append(wheel)
        self._wheels: dict[tuple[str, str, str, str, str], tuple[WheelStock, ...]] = {}
        self._drafts: dict[tuple[object, ...], tuple[Draft, ...]] = {}

    def drafts(self, recipes: Sequence[Recipe], request: Request, processor: str, platform: str | None) -> tuple[Draft, ...]:
        """Return what the recipe and its overlays consider on such a machine, for the versions that the request names."""
        pins = (request.torch, request.cuda, request.flash_attn, request.python)
        key = (*(id(recipe) for recipe in recipes), processor, platform, request.only_flash_attn, *pins)
        if key not in self._drafts:
            self._drafts[key] = tuple(self._make_drafts(recipes, request, processor, platform))
        return self._drafts[key]

    def _make_drafts(self, recipes: Sequence[Recipe], request: Request, processor: str, platform: str | None) -> list[Draft]:
        stacks = tuple(stack for recipe in recipes for stack in recipe.stacks)
        unsloth = not request.only_flash_attn and any(recipe.installs("unsloth") for recipe in recipes)
        found = list(drafts.listed(self, stacks, platform, processor))
        if platform is None and drafts.pins_versions(request, stacks):
            found += drafts.pinned(self, request, stacks, processor)
        groups: dict[tuple[int, Route, str | None], int] = {}
        unique: dict[str, Draft] = {}
        for draft in found:
            fault = flaw(draft, request, self, processor, unsloth=unsloth)
            group = groups.setdefault((id(draft.stack), draft.route, None if draft.wheel else draft.version), len(groups))
            name, known = draft.id, unique.get(draft.id)
            if known is not None and known.torch is not draft.torch:  # one wheel may go with two builds of a torch
                name = f"{draft.id}/torch{drafts.torch_label(draft.torch)}"
                known = unique.get(name)
            if known is None or (known.flaw is not None and fault is None):
                unique[name] = structs.replace(draft, id=name, flaw=fault, group=group)
        return list(unique.values())

    def torch(self, stack: Stack, processor: str) -> TorchStock | None:
        """Return the torch build that a stack means on this processor, None where there is none."""
        if stack.torch_archs:
            return _stated_torch(stack)
        return _find_torch(stack.torch, stack.cuda, stack.torch_index, processor)

    def torch_builds(self, torch: str | None, cuda: str | None, processor: str) -> list[TorchStock]:
        """Return the CUDA builds that the pins allow, newest torch first, of each the package index's own before PyTorch's, newest CUDA first."""
        found = [
            _torch_stock(build)
            for build in reversed(torch_builds.builds())
            if build.machine == processor
            and build.cuda is not None
            and drafts.wants(torch, build.torch)
            and drafts.wants(minor(cuda) if cuda else None, build.cuda)
        ]
        by_index = sorted(found, key=lambda build: build.index is not None)
        return sorted(by_index, key=lambda build: numbers(build.torch), reverse=True)

    def torch_abis(self, wheel: WheelStock) -> frozenset[bool | None]:
        """Return the C++ ABIs of pip's torch builds that a wheel is for; of all of that minor when none has its CUDA."""
        return frozenset(build.cxx11_abi for build in _builds_for(wheel))

    def torch_covers(self, wheel: WheelStock, capabilities: tuple[ComputeCapability, ...]) -> bool:
        """Say whether some torch build that a wheel is for has kernels for every GPU."""
        return any(all(build.runs_on(capability) for capability in capabilities) for build in _builds_for(wheel))

    def wheels(self, version: str, torch: str, python: str, processor: str, system: str) -> tuple[WheelStock, ...]:
        """Return the wheels of a flash-attn version for a torch minor, a Python tag (``cp312``) and a platform."""
        key = (version, torch, python, processor, system)
        if key not in self._wheels:
            platform = "win_amd64" if system == "windows" else f"linux_{processor}"
            found = self.wheel_index.find(torch, python, platform, version=version)
            self._wheels[key] = (
                *self.own_wheels(version, torch, python, processor, system),
                *(_wheel_stock(wheel) for wheel in found),
            )
        return self._wheels[key]

    def own_wheels(self, version: str, torch: str, python: str, processor: str, system: str) -> tuple[WheelStock, ...]:
        """Return the same of the user's own wheelhouse."""
        return tuple(self._own.get((version, torch, python, processor, system), ()))

    def all_wheels(self) -> Iterator[WheelStock]:
        """Yield every wheel of the index."""
        return (_wheel_stock(wheel) for wheel in self.wheel_index.wheels)

    def versions(self, route: Route, xformers: str | None, pin: str | None) -> tuple[str, ...]:
        """Return the flash-attn versions to try beside a torch that no recipe lists: those that its xformers takes, then others, newest first."""
        if route is Route.NONE:
            return ()
        if route is Route.SOURCE:
            known = [release.version for release in flash_attn.releases() if release.api == "2"]
            if pin is None:
                known = [version for version in known if version in COMPILED]
        else:
            known = list(self._wheel_versions())
        allowed = tuple(version for version in known if drafts.wants(pin, version))
        if route is not Route.SOURCE:
            return allowed
        taken = sorted(allowed, key=lambda version: xformers is not None and not self.accepts(xformers, version))
        return tuple(taken[:NEWEST_TRIED])

    @lru_cache(maxsize=1)  # noqa: B019 - a catalog lives as long as the process
    def _wheel_versions(self) -> tuple[str, ...]:
        from packaging.version import Version

        versions = {wheel.version for wheel in self.wheel_index.wheels if not wheel.version.startswith("1.")}
        return tuple(sorted(versions, key=Version, reverse=True))

    def release(self, version: str) -> ReleaseStock | None:
        """Return a flash-attn release as source, None when the package index has none of that version."""
        return _release_stock(version)

    def partners(self, torch: str) -> Partners:
        """Return the xformers and triton for a torch release."""
        xformers, triton = packages.xformers_for(torch), packages.triton_for(torch)
        return Partners(xformers.xformers if xformers else None, triton.triton if triton else None)

    def xformers_range(self, version: str) -> tuple[str, str] | None:
        """Return the lowest and the highest flash-attn that an xformers release takes, None where no bound is known."""
        found = packages.xformers_release(version)
        return (found.flash_attn_min, found.flash_attn_max) if found and found.flash_attn_max else None

    def accepts(self, xformers: str, flash_attn_version: str) -> bool:
        """Say whether xformers takes a flash-attn beside it; True for an xformers that is not known."""
        found = packages.xformers_release(xformers)
        return found is None or found.accepts_flash_attn(flash_attn_version)

    def xformers_pythons(self, xformers: str) -> tuple[str, ...]:
        """Return the Pythons that an xformers release has wheels for; empty where one wheel serves all."""
        found = packages.xformers_release(xformers)
        return found.pythons if found else ()

    def unassembled(self, triton: str, capabilities: tuple[ComputeCapability, ...]) -> tuple[ComputeCapability, ...]:
        """Return the GPUs that a triton release is known not to assemble for."""
        return _unassembled(triton, capabilities)

    def assembler(self, triton: str, capability: ComputeCapability) -> str | None:
        """Return the CUDA version of the assembler that a triton release takes for a GPU, None where that is not known."""
        found = packages.triton_release(triton)
        return found.assembler(capability) if found else None

    def unsloth_objection(self, torch: str, python: str) -> str | None:
        """Return why the newest Unsloth cannot stand beside a torch in a Python, None where it can."""
        return _unsloth_objection(torch, python)

    def gcc_max(self, cuda: str) -> int | None:
        """Return the newest gcc major that nvcc of this CUDA (and torch's builder) accepts."""
        return compilers.gcc_max(cuda) if cuda else None

    def cuda_range(self, capability: ComputeCapability) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """Return the first and the last CUDA that compiles for an architecture; None where open or not known."""
        return _cuda_range(capability)


def load_catalog(recipe_dirs: tuple[Path, ...] = (), *, wheelhouse: Path | None = None) -> Catalog:
    """Return the catalog with the shipped recipes and those of further folders, and the wheels of ``wheelhouse`` as it is now.

    Raise `UsageError` for a bad recipe.
    """
    if wheelhouse is not None and (own := read_wheelhouse(wheelhouse)):
        return Catalog(load_recipes(recipe_dirs), wheel_index.load(), own)
    return _catalog(recipe_dirs)


@lru_cache(maxsize=8)
def _catalog(recipe_dirs: tuple[Path, ...]) -> Catalog:
    return Catalog(load_recipes(recipe_dirs), wheel_index.load())


@cache
def _torch_stock(build: torch_builds.TorchBuild) -> TorchStock:
    major = build.cuda.split(".")[0] if build.cuda else None
    return TorchStock(
        torch=build.torch,
        cuda=build.cuda,
        index=build.index,
        label=build.variant,
        archs=tuple(ComputeCapability.parse(arch) for arch in build.archs),
        pythons=frozenset(build.pythons),
        glibc=numbers(build.glibc)[:2],
        cxx11_abi=build.cxx11_abi,
        cxx_standard=build.cxx_standard,
        size_mib=TORCH_MIB.get(major, 800),
    )


def _builds_for(wheel: WheelStock) -> list[torch_builds.TorchBuild]:
    """Return pip's torch builds of a wheel's minor and CUDA; all of that minor when none has its CUDA."""
    builds = torch_builds.find(wheel.torch, machine=wheel.processor)
    return [build for build in builds if drafts.same_cuda(wheel, build.cuda)] or list(builds)


@cache
def _find_torch(torch: str, cuda: str | None, index: str | None, processor: str) -> TorchStock | None:
    for build in torch_builds.builds():
        if build.torch == torch and build.cuda == cuda and build.machine == processor and index in (None, build.index):
            return _torch_stock(build)
    return None


@lru_cache(maxsize=1024)
def _unsloth_objection(torch: str, python: str) -> str | None:
    newest = packages.unsloth()[0]
    if not newest.accepts("torch", torch):
        return f"unsloth {newest.unsloth} takes torch {newest.requires['torch']}"
    if newest.accepts_python(python):
        return None
    lowest = f", and what it requires starts at {newest.lowest_python}" if newest.lowest_python else ""
    return f"unsloth {newest.unsloth} takes Python {newest.requires_python}{lowest}"


@lru_cache(maxsize=4096)
def _unassembled(triton: str, capabilities: tuple[ComputeCapability, ...]) -> tuple[ComputeCapability, ...]:
    found = packages.triton_release(triton)
    return tuple(cc for cc in capabilities if found is not None and found.assembles_for(cc) is False)


def _stated_torch(stack: Stack) -> TorchStock:
    """Return the torch of a stack that states its own facts, for an index that knowledge does not list."""
    return TorchStock(
        torch=stack.torch,
        cuda=stack.cuda,
        index=stack.torch_index,
        label="",
        archs=tuple(ComputeCapability.parse(arch) for arch in stack.torch_archs),
        pythons=frozenset(stack.pythons),
        glibc=(),
        cxx11_abi=True,
        cxx_standard=17,
    )


@cache
def _release_stock(version: str) -> ReleaseStock | None:
    found = flash_attn.release(version)
    if found is None or found.yanked:
        return None
    return ReleaseStock(
        version=found.version,
        filename=found.sdist,
        sha256=found.sha256,
        archs=tuple(ComputeCapability.parse(arch) for arch in found.archs),
        cxx_standard=found.cxx_standard,
        max_torch=found.max_torch,
    )


def _wheel_stock(wheel: wheel_index.Wheel) -> WheelStock:
    system = "windows" if wheel.platform.startswith("win") else "linux"
    processor = "aarch64" if "aarch64" in wheel.platform else "x86_64"
    return WheelStock(
        version=wheel.version,
        cuda=numbers(wheel.cuda),
        torch=wheel.torch,
        python=wheel.python,
        processor=processor,
        system=system,
        abi=wheel.abi,
        real_abi=wheel.abi_real,
        url=wheel.url,
        filename=wheel.filename,
        sha256=wheel.sha256,
        trust=Trust(wheel.trust),
        glibc=numbers(wheel.glibc)[:2] if wheel.glibc else None,
        archs=tuple(ComputeCapability.parse(arch) for arch in wheel.archs),
        driver_cuda=wheel.driver_cuda,
    )


@cache
def _cuda_range(capability: ComputeCapability) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    found = archs.arch(capability)
    if found is None:
        return None, None
    first, last = found.first_cuda, found.last_cuda
    return (numbers(first)[:2] if first else None), (numbers(last)[:2] if last else None)
