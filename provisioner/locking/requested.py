"""What a lock was asked for, kept in it: to check it or to move one package means to choose again with the same wishes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable

from provisioner import codec
from provisioner.locking.values import Lock
from provisioner.planning.values import BuildChoice, KernelSelection, Request

REQUEST = "provision-request"

PINS = {"python": "python", "torch": "torch", "cuda": "cuda", "flash-attn": "flash_attn"}
"""The fields of a request that pin one package, by the package's name."""


def recorded(request: Request | None) -> str | None:
    """Return what was asked for as JSON, what was left open left out; None when all was."""
    if request is None:
        return None
    open_ones = codec.to_builtins(Request())
    stated = codec.to_builtins(dataclasses.replace(request, offline=False))
    wishes = {name: value for name, value in stated.items() if value != open_ones[name]}
    return json.dumps(wishes, separators=(",", ":"), sort_keys=True) if wishes else None


def requested(lock: Lock) -> Request:
    """Return what a lock was asked for; an open request where it does not say. Raise `UsageError` when it was edited to be none."""
    text = lock.metadata.get(REQUEST)
    return codec.from_json(text, Request, what=f"the lock's {REQUEST}") if text else Request()


def asked_again(lock: Lock, now: Request, moving: Iterable[str] = ()) -> Request:
    """Return the lock's request with what is stated now in its place; pins of packages that are to move are dropped."""
    before = requested(lock)
    dropped: dict[str, None] = {PINS[name]: None for name in moving if name in PINS}
    before = dataclasses.replace(before, **dropped)  # type: ignore[arg-type]
    open_one = Request()
    stated = {
        field.name: getattr(now, field.name)
        for field in dataclasses.fields(Request)
        if getattr(now, field.name) != getattr(open_one, field.name)
    }
    stated["packages"] = tuple(dict.fromkeys((*before.packages, *now.packages)))
    return dataclasses.replace(before, **stated)


def words_again(lock: Lock) -> list[str]:
    """Return the ``provision lock`` line, without its file, that makes a lock like this one: its GPUs, driver, C library and wishes.

    The driver is the least one that runs the lock: what the machine had is not kept.
    """
    classes = list(filter(None, lock.metadata.get("provision-gpu-classes", "").split(",")))
    words = ["provision", "lock", *(word for name in classes for word in ("--gpu", name))]
    for option, key in (
        ("--driver", "provision-driver-floor"),
        ("--glibc", "provision-glibc"),
        ("--exclude-newer", "provision-exclude-newer"),
    ):
        if (value := lock.metadata.get(key)) and (classes or option != "--driver"):
            words += [option, value]
    request = requested(lock)
    recipe = request.recipe or (None if classes else "cpu")
    pins = {"--python": request.python, "--torch": request.torch, "--cuda": request.cuda, "--flash-attn": request.flash_attn}
    for option, value in {**pins, "--recipe": recipe, "--backend": request.backend}.items():
        words += [option, value] if value else []
    words += {BuildChoice.ALWAYS: ["--build"], BuildChoice.NEVER: ["--no-build"]}.get(request.build, [])
    if (kernels := request.kernels) is not None:
        words += ["--kernels", kernels.preset] if kernels.preset in ("full", "unsloth") else _dimensions(kernels)
    words += ["--allow-community"] if request.allow_community else []
    words += ["--only", "flash-attn"] if request.only_flash_attn else []
    return [*words, *(word for package in request.packages for word in ("--with", package))]


def _dimensions(kernels: KernelSelection) -> list[str]:
    chosen = {"--head-dims": map(str, kernels.head_dims), "--dtypes": kernels.dtypes, "--features": kernels.features}
    return [word for option, values in chosen.items() for word in (option, ",".join(values))]
