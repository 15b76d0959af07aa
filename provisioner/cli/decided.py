"""What a lock or a bundle has decided already: options that choose otherwise are refused, never passed over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from provisioner.errors import UsageError
from provisioner.locking.requested import requested
from provisioner.locking.values import Lock
from provisioner.planning.numbers import covers, minor
from provisioner.planning.values import BuildChoice, Plan, Request


def check_decided(
    source: str,
    request: Request,
    locked: tuple[Lock, Plan],
    *,
    channels: tuple[str, ...] = (),
    recipe_dirs: tuple[Path, ...] = (),
    says: str = "decides that already",
) -> None:
    """Raise `UsageError` naming the options that choose otherwise than what is ``locked``, which ``source`` (``--lock`` or ``--bundle``)
    carries. What the lock was made with may be stated again."""
    lock, plan = locked
    against = list(_against(request, plan, requested(lock)))
    against += [f"--channel {name}" for name in channels]
    against += [f"--recipes {folder}" for folder in recipe_dirs]
    if not against:
        return
    named = ", ".join(against)
    raise UsageError(
        f"{source} {says}: {named}",
        why=f"it has torch {plan.torch}, CUDA {plan.cuda or 'none'}, Python {plan.python}, flash-attn {_flash_attn(plan) or 'none'}",
        hints=[f"leave away {named}", f"or lock anew with them, and leave {source} away"],
        code="lock-decides",
    )


def _against(request: Request, plan: Plan, before: Request) -> Iterator[str]:
    versions = {
        "--python": (request.python, plan.python),
        "--torch": (request.torch, plan.torch),
        "--cuda": (request.cuda, plan.cuda),
        "--flash-attn": (request.flash_attn, _flash_attn(plan)),
    }
    for option, (asked, has) in versions.items():
        if asked is not None and not (has and (covers(asked, has) or minor(asked) == has)):
            yield f"{option} {asked}"
    if request.recipe not in (None, before.recipe, plan.recipe):
        yield f"--recipe {request.recipe}"
    if request.backend not in (None, plan.backend):
        yield f"--backend {request.backend}"
    if request.build not in (BuildChoice.AUTO, before.build):
        yield "--build" if request.build is BuildChoice.ALWAYS else "--no-build"
    if request.kernels not in (None, before.kernels):
        yield "--kernels, --head-dims, --dtypes and --features"
    if request.allow_community and not before.allow_community:
        yield "--allow-community"
    if request.only_flash_attn and not before.only_flash_attn:
        yield "--only flash-attn"
    yield from (f"--with {package}" for package in request.packages if package not in before.packages)


def _flash_attn(plan: Plan) -> str | None:
    return plan.flash_attn.version.partition("+")[0] if plan.flash_attn else None
