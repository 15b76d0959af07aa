"""``provision inspect``: what a wheel, an extension or an environment's flash-attn really holds, and whether it fits a torch."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking

if TYPE_CHECKING:
    from provisioner.wheels.inspection import Inspection
    from provisioner.wheels.torch_facts import TorchFacts
    from provisioner.wheels.verdict import Reason, Target


@click.command()
@click.argument("subject")
@click.option("--against", metavar="PYTHON|ENV", help="Link against the torch of this environment, without importing it.")
@click.option("--gpu", "gpus", multiple=True, metavar="CC", help="Judge for this compute capability (9.0, sm_90); repeatable.")
@click.option("--here", is_flag=True, help="Judge for the GPUs of this machine.")
@click.option(
    "--package", metavar="NAME", default="flash-attn", show_default=True, help="The distribution to look at in an environment."
)
@speaking
def command(
    *,
    subject: str,
    against: str | None,
    gpus: tuple[str, ...],
    here: bool,
    package: str,
    output: Output,
    offline: bool,
    yes: bool,
) -> int:
    """Say what SUBJECT holds: a wheel (path or URL), a .so, an environment (name, folder or its Python).

    GPU architectures, stub kernels, C++ ABI, glibc floor and CUDA runtime are read from the binary itself, and with --against the
    symbols that this torch would leave undefined. Exit 1 when there is a reason not to use it.
    """
    from provisioner.codec import to_builtins
    from provisioner.wheels.inspect import inspect
    from provisioner.wheels.torch_facts import read_torch
    from provisioner.wheels.verdict import reject_reasons

    torch = _torch_of(_place(against)) if against else None
    if here:
        gpus = (*gpus, *_gpus_here())
    with output.progress():
        found = inspect(_place(subject), against=torch.lib_dir if torch else None, package=package)
    if torch is None and found.against is not None:
        torch = read_torch(Path(found.against).parent.parent)
    reasons = reject_reasons(found, _target(torch, gpus))
    if output.as_json:
        output.document(**to_builtins(found), reasons=to_builtins(reasons))
    else:
        output.say("\n".join([*describe(found), "", *verdict(found, reasons, judged=bool(gpus or torch))]))
    return 1 if reasons else 0


def _place(text: str) -> str:
    """Return the prefix of the environment that ``text`` names, else ``text``: a path or a URL."""
    from provisioner import paths

    link = paths.envs_dir() / text
    return text if "/" in text or Path(text).exists() or not link.is_dir() else str(link.resolve())


def _gpus_here() -> tuple[str, ...]:
    from provisioner.errors import UsageError
    from provisioner.machine.probe import probe

    found = tuple(dict.fromkeys(gpu.compute_capability for gpu in probe().gpus if gpu.compute_capability))
    if not found:
        raise UsageError(
            "no NVIDIA GPU answers here", hints=["say which is meant: --gpu 9.0", "`provision detect` says why"], code="no-gpu"
        )
    return found


def _torch_of(environment: str) -> TorchFacts:
    from provisioner.errors import UsageError
    from provisioner.wheels.torch_facts import read_torch

    torch = read_torch(Path(environment))
    if torch is None:
        hints = ["install torch there first, or leave --against out"]
        raise UsageError(f"there is no torch in {environment}", hints=hints, code="no-torch")
    return torch


def _target(torch: TorchFacts | None, gpus: tuple[str, ...]) -> Target:
    """Return what to judge for: the GPUs asked for, and where a torch is given, that torch on this system."""
    from provisioner.capability import ComputeCapability
    from provisioner.errors import UsageError
    from provisioner.wheels.verdict import Target

    try:
        wanted = tuple(str(ComputeCapability.parse(gpu)) for gpu in gpus)
    except ValueError as error:
        raise UsageError(str(error), hints=["for example --gpu 9.0 or --gpu sm_90"], code="bad-capability") from error
    if torch is None:
        return Target(gpus=wanted)
    library, version = platform.libc_ver()
    glibc = version if library == "glibc" else None
    return Target(gpus=wanted, glibc=glibc, torch=torch.version, torch_cuda=torch.cuda, abi=torch.abi)


def describe(found: Inspection) -> list[str]:
    """Return the facts as lines: one per property, then one per extension where there are several."""
    title = f"{found.distribution} {found.version}" if found.distribution else found.subject
    rows = [
        ("device code", _device_code(found)),
        ("stubs", ", ".join(found.stubs)),
        ("C++ ABI", found.abi or ("not a torch extension" if found.extensions and not found.torch_libs else "")),
        ("glibc", f"≥ {found.glibc}" if found.glibc else ""),
        ("libstdc++", f"GLIBCXX ≥ {found.glibcxx}" if found.glibcxx else ""),
        ("CUDA runtime", found.cudart or ", ".join(sorted({one.cudart for one in found.extensions if one.cudart}))),
        ("torch", found.torch or ""),
        ("tags", ", ".join(found.tags[:3])),
        ("moved", _moved(found)),
    ]
    lines = [title, *(f"  {label:<13} {text}" for label, text in rows if text)]
    if len(found.extensions) > 1:
        lines += [f"  {one.path:<44} {', '.join(one.archs) or 'no device code'}" for one in found.extensions]
    return [*lines, *(f"  note: {note}" for note in found.notes)]


def _device_code(found: Inspection) -> str:
    if found.archs:
        return ", ".join(found.archs) + ("" if found.complete else " (seen so far)")
    return {False: "none", True: "yes", None: "" if found.complete else "not reached"}[found.kernels]


def _moved(found: Inspection) -> str:
    if not found.bytes_total or found.bytes_read is None:
        return ""
    return f"{found.bytes_read / 2**20:.1f} of {found.bytes_total / 2**20:.1f} MiB ({found.bytes_read / found.bytes_total:.1%})"


def verdict(found: Inspection, reasons: tuple[Reason, ...], *, judged: bool) -> list[str]:
    """Return the judgement as lines: each reason with what to do about it, or what was checked and found right."""
    if reasons:
        lines = [f"do not use it: {len(reasons)} reason{'s' if len(reasons) > 1 else ''}"]
        for reason in reasons:
            lines += [f"  [{reason.code}] {reason.text}", f"    → {ADVICE.get(reason.code, ADVICE_ELSE)}"]
        return lines
    if not judged:
        return ["to judge it, say what for: --gpu 9.0, --against PYTHON"]
    if not found.complete:
        return ["nothing that was read speaks against it; what was not read is checked once the wheel is here"]
    checked = ["no undefined symbols"] if found.undefined is not None else []
    checked.append("architectures and libraries fit" if found.archs else "it holds no device code")
    return [f"nothing speaks against it ({', '.join(checked)})"]


ADVICE = {
    "no-kernels": "its build was skipped; take a wheel for this Python and torch, or `provision build`",
    "stub-kernels": "no release of flash-attn 2.x computes on this GPU: `provision plan` says which attention does",
    "no-kernel-image": "`provision plan` for this GPU says which wheel has its architecture, or how to build one",
    "glibc-too-old": "take a wheel with a lower floor, or `provision build` here; glibc itself is not to be replaced",
    "libstdcxx-too-old": "take a newer libstdc++ into the environment (conda: libstdcxx-ng), or `provision build` here",
    "libcudart-missing": "take the wheel for torch's CUDA major version, or torch for the wheel's",
    "library-missing": "install the package that brings these libraries into the same environment",
    "undefined-symbol-abi-mismatch": "wheel and torch are from different builds: take the wheel for exactly this torch, or `provision build`",
    "wheel-tag-mismatch": "take the wheel whose cpXY tag is this Python's",
}
ADVICE_ELSE = "`provision plan` finds one that fits"
