"""``provision inspect``: what a wheel, an extension or an environment's flash-attn really holds, and whether it fits a torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from provisioner.cli.console import Output
from provisioner.cli.options import speaking

if TYPE_CHECKING:
    from provisioner.wheels.inspection import Inspection
    from provisioner.wheels.verdict import Reason


@click.command()
@click.argument("subject")
@click.option("--against", metavar="PYTHON|PREFIX", help="Link against the torch of this environment, without importing it.")
@click.option("--gpu", "gpus", multiple=True, metavar="CC", help="Judge for this compute capability (9.0, sm_90); repeatable.")
@click.option("--package", default="flash-attn", show_default=True, help="The distribution to look at in an environment.")
@speaking
def command(
    *, subject: str, against: str | None, gpus: tuple[str, ...], package: str, output: Output, offline: bool, yes: bool
) -> int:
    """Say what SUBJECT holds: a wheel (path or URL), a .so, an environment's folder or its Python.

    GPU architectures, stub kernels, C++ ABI, glibc floor and CUDA runtime are read from the binary itself, and with --against the
    symbols that this torch would leave undefined. Exit 1 when there is a reason not to use it.
    """
    from provisioner.codec import to_builtins
    from provisioner.wheels.inspect import inspect
    from provisioner.wheels.verdict import reject_reasons

    torch, target = _target(against, gpus)
    with output.progress():
        found = inspect(subject, against=torch, package=package)
    reasons = reject_reasons(found, target)
    if output.as_json:
        output.document(**to_builtins(found), reasons=reasons)
    else:
        show(output, found, reasons, judged=bool(gpus or found.against))
    return 1 if reasons else 0


def _target(against: str | None, gpus: tuple[str, ...]) -> tuple[Path | None, Target]:
    from provisioner.errors import UsageError
    from provisioner.wheels.torch_facts import read_torch
    from provisioner.wheels.verdict import Target

    wanted = tuple(_capability(gpu) for gpu in gpus)
    if against is None:
        return None, Target(gpus=wanted)
    torch = read_torch(Path(against))
    if torch is None:
        raise UsageError(f"there is no torch in {against}", hints=["install torch there first, or leave --against out"], code="no-torch")
    return torch.lib_dir, Target(gpus=wanted, torch=torch.version, torch_cuda=torch.cuda, abi=torch.abi)
