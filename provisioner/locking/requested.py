"""What a lock was asked for, kept in it: to check it or to move one package means to choose again with the same wishes."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Iterable

from provisioner import codec
from provisioner.locking.targets import conda_platform
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
    """Return the ``provision lock`` line, without its file, that makes a lock like this one when it is typed on this host: for its platform
    and GPUs, driver and C library, from its channels, with its wishes, Python and backend.

    The driver is the least one that runs the lock: what the machine had is not kept.
    """
    from provisioner.locking.lock import plan_of

    classes = list(filter(None, lock.metadata.get("provision-gpu-classes", "").split(",")))
    words = ["provision", "lock", *_places(lock), *(word for name in classes for word in ("--gpu", name))]
    for option, key in (
        ("--driver", "provision-driver-floor"),
        ("--glibc", "provision-glibc"),
        ("--exclude-newer", "provision-exclude-newer"),
    ):
        if (value := lock.metadata.get(key)) and (classes or option != "--driver"):
            words += [option, value]
    request, plan = requested(lock), plan_of(lock)
    if plan is not None:  # both depend on what the host has, where nobody asks for one
        request = dataclasses.replace(request, python=request.python or plan.python, backend=request.backend or plan.backend)
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


def _places(lock: Lock) -> list[str]:
    """Return the options for a platform that is not this host's, and for channels that are not those which a lock takes by itself."""
    from provisioner.locking.conda_part import channel_url, default_channels

    words = [] if lock.platform == conda_platform(platform.machine()) else ["--platform", lock.platform]
    live = lock.channels if lock.of("conda") and "provision-snapshot" not in lock.metadata else ()
    if not live or live == tuple(channel_url(name) for name in default_channels()):
        return words
    return [*words, *(word for name in live for word in ("--channel", name))]


def _dimensions(kernels: KernelSelection) -> list[str]:
    chosen = {"--head-dims": map(str, kernels.head_dims), "--dtypes": kernels.dtypes, "--features": kernels.features}
    return [word for option, values in chosen.items() for word in (option, ",".join(values))]
