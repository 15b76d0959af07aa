"""Recipes as values: which machines, which stacks in which order, and what goes into the environment.

A recipe is data. Its text is TOML; the values here are its typed form, and `recipes/recipe.schema.json` is the JSON schema
made from them (``python -m tests.planning.test_recipes`` writes it anew).
"""

from __future__ import annotations

import re

import msgspec

from provisioner.capability import ComputeCapability
from provisioner.planning.values import BuildChoice, Route, Trust

RECIPE_SCHEMA = 1
"""The ``schema`` number that a recipe states; it grows when a field changes its meaning."""

DEFAULT_TRUST = (Trust.WHEELHOUSE, Trust.OFFICIAL, Trust.INDEX)

UNSLOTH_TORCH = (2, 4)
"""Unsloth needs torch 2.4 (requirements of 2026.10.9, read 2026-11-24)."""

_CONDITION = re.compile(r"(>=|<=|==|<|>)\s*(\d{1,2}\.\d)")


class Match(msgspec.Struct, frozen=True):
    """The machines of a recipe: a condition such as ``">=8.0"`` or ``">=8.0, <9.0"``, or ``gpu = "none"``, or a WSL."""

    compute_capability: str | None = None
    gpu: str | None = None
    wsl: str | None = None


class Attention(msgspec.Struct, frozen=True):
    """The attention path that will run, and what the user should know about it."""

    path: str | None = None
    notes: tuple[str, ...] = ()


class Packages(msgspec.Struct, frozen=True):
    """Requirements of an environment; ``flash_attn_runtime`` is what flash-attn itself needs beside torch."""

    requirements: tuple[str, ...] = ()
    flash_attn_runtime: tuple[str, ...] = ("einops",)


class Build(msgspec.Struct, frozen=True):
    """Whether flash-attn is compiled when the user says nothing, and the reason to give when it is not."""

    default: BuildChoice = BuildChoice.AUTO
    reason: str | None = None


class Verification(msgspec.Struct, frozen=True):
    """What verification must show: modules that import, and whether numbers are checked on a GPU."""

    imports: tuple[str, ...] = ()
    numerics: bool = True


class Stack(msgspec.Struct, frozen=True):
    """Versions that go together, and how flash-attn gets there.

    ``pythons`` and ``flash_attn`` are in the order of preference; with route ``shim`` they are the adapter's (``2.8.3+aten``), and the stack
    serves without it too where the adapter does not suit. ``torch_index`` None means: the index that knowledge names
    for this build. ``trimmed`` leaves Unsloth and its packages out. ``torch_archs`` state a torch that knowledge does not know;
    ``l4t`` is the major release of Jetson Linux that it is built for.
    """

    route: Route
    torch: str
    pythons: tuple[str, ...]
    cuda: str | None = None
    flash_attn: tuple[str, ...] = ()
    xformers: str | None = None
    triton: str | None = None
    torch_index: str | None = None
    torch_archs: tuple[str, ...] = ()
    platform: str | None = None
    l4t: int | None = None
    trust: tuple[Trust, ...] = DEFAULT_TRUST
    not_on: str | None = None
    not_on_reason: str | None = None
    ignore_xformers_range: bool = False
    trimmed: bool = False
    activation: dict[str, str] = {}


class Recipe(msgspec.Struct, frozen=True):
    """One recipe; an ``overlay`` is laid over the one that the GPU picks; ``allow_community`` trusts third-party wheels."""

    schema: int
    name: str
    title: str
    checked: str
    match: Match
    attention: Attention = Attention()
    packages: Packages = Packages()
    build: Build = Build()
    verification: Verification = Verification()
    stacks: tuple[Stack, ...] = ()
    overlay: bool = False
    allow_community: bool = False
    activation: dict[str, str] = {}

    def installs(self, package: str) -> bool:
        """Say whether its requirements name a package."""
        return any(re.fullmatch(rf"{package}\b[^a-z0-9_-]*.*", text) for text in self.packages.requirements)

    def suits(self, capability: ComputeCapability) -> bool:
        """Say whether the recipe is for a GPU of this compute capability."""
        condition = self.match.compute_capability
        return condition is not None and satisfies(capability, condition)


def satisfies(capability: ComputeCapability, condition: str) -> bool:
    """Say whether ``capability`` meets a condition such as ``">=8.0"`` or ``">=8.0, <9.0"``; raise ValueError for nonsense."""
    return all(_meets(capability, part.strip()) for part in condition.split(","))


def _meets(capability: ComputeCapability, part: str) -> bool:
    match = _CONDITION.fullmatch(part)
    if match is None:
        raise ValueError(f'not a condition on the compute capability: {part!r} (write ">=8.0")')
    bound = ComputeCapability.parse(match[2])
    return {
        ">=": capability >= bound,
        "<=": capability <= bound,
        "==": capability == bound,
        "<": capability < bound,
        ">": capability > bound,
    }[match[1]]
