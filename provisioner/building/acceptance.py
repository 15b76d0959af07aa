"""The last step of a build: the wheel is inspected and dry-linked, and enters the wheelhouse only when nothing speaks against it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from provisioner.building.archs import capability_of
from provisioner.building.target import Target
from provisioner.errors import BuildFailed
from provisioner.wheels.inspect import inspect
from provisioner.wheels.inspection import Inspection
from provisioner.wheels.torch_facts import read_abi
from provisioner.wheels.verdict import Target as Destination
from provisioner.wheels.verdict import reject_reasons


def accept_wheel(wheel: Path, target: Target, archs: Sequence[str]) -> Inspection:
    """Return the inspection of ``wheel``, linked against the torch of ``target``.

    Raise `BuildFailed` with every reason when it lacks device code for one of ``archs``, has kernels that only print an error there, or
    would not load beside this torch: symbols, C++ ABI, CUDA runtime, library floors, tags.
    """
    libraries = target.torch.root / "lib"
    inspection = inspect(wheel, against=libraries)
    destination = Destination(
        gpus=tuple(dict.fromkeys(str(capability_of(arch)) for arch in archs)),
        glibc=target.interpreter.glibc or None,
        python=target.interpreter.version + ("t" if target.interpreter.abi.endswith("t") else ""),
        machine=target.interpreter.platform.partition("_")[2],
        torch=target.torch.version,
        torch_cuda=target.torch.cuda,
        abi=read_abi(libraries),
    )
    reasons = list(reject_reasons(inspection, destination))
    missing = [arch for arch in archs if arch not in inspection.archs]
    if not reasons and not missing:
        return inspection
    texts = [reason.text for reason in reasons] + [f"it holds no device code for {arch}" for arch in missing]
    raise BuildFailed(
        f"{wheel.name} was built, but would not work: {texts[0]}",
        why="; ".join(texts[1:]) or None,
        hints=[
            "build for what is here: --arch, --python and --cuda-home name it",
            "`provision doctor` looks at the torch and the toolkit",
        ],
        code=reasons[0].code if reasons else "no-kernel",
        details={"reasons": texts},
    )
