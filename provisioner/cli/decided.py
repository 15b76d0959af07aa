"""What a lock or a bundle has decided already: options that choose otherwise are refused, never passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.planning.values import BuildChoice, Plan, Request


def check_decided(
    source: str, request: Request, plan: Plan, *, channels: tuple[str, ...] = (), recipe_dirs: tuple[Path, ...] = ()
) -> None:
    """Raise `UsageError` naming the options that choose otherwise than ``plan``, which ``source`` (``--lock`` or ``--bundle``) carries."""
    against = list(_against(request, plan))
    against += [f"--channel {name}" for name in channels]
    against += [f"--recipes {folder}" for folder in recipe_dirs]
    if not against:
        return
    named = ", ".join(against)
    raise UsageError(
        f"{source} decides that already: {named}",
        why=f"it has torch {plan.torch}, CUDA {plan.cuda or 'none'}, Python {plan.python}, flash-attn {_flash_attn(plan) or 'none'}",
        hints=[f"leave away {named}", f"or lock anew with them, and leave {source} away"],
        code="lock-decides",
    )


def _against(request: Request, plan: Plan) -> Iterator[str]:
    pins = {
        "--python": (request.python, plan.python),
        "--torch": (request.torch, plan.torch),
        "--cuda": (request.cuda, plan.cuda),
        "--flash-attn": (request.flash_attn, _flash_attn(plan)),
        "--recipe": (request.recipe, plan.recipe),
        "--backend": (request.backend, plan.backend),
    }
    for option, (asked, has) in pins.items():
        if asked is not None and asked != has and not (has or "").startswith(f"{asked}."):
            yield f"{option} {asked}"
    if request.build is not BuildChoice.AUTO:
        yield "--build" if request.build is BuildChoice.ALWAYS else "--no-build"
    if request.kernels is not None:
        yield "the kernel options"
    if request.allow_community:
        yield "--allow-community"
    if request.only_flash_attn:
        yield "--only flash-attn"
    yield from (f"--with {package}" for package in request.packages)


def _flash_attn(plan: Plan) -> str | None:
    return plan.flash_attn.version.partition("+")[0] if plan.flash_attn else None
