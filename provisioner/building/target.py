"""The Python and the torch that an extension is built for, read from their files; torch is never imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from provisioner import process
from provisioner.codec import from_json
from provisioner.errors import BuildFailed
from provisioner.torch_version import parse_torch_version
from provisioner.wheels.linkage import Abi
from provisioner.wheels.torch_facts import read_abi

_ASK = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "version": platform.python_version(),
    "tag": "cp%d%d" % sys.version_info[:2],
    "abi": "cp%d%d%s" % (*sys.version_info[:2], getattr(sys, "abiflags", "")),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
    "include": sysconfig.get_path("include"),
    "platform": sysconfig.get_platform().replace("-", "_").replace(".", "_"),
    "site": list(dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *sys.path])),
    "glibc": (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2] if hasattr(os, "confstr") else "",
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """What the target interpreter says of itself. ``suffix`` ends the extension's name; ``site`` is where its packages lie."""

    version: str
    tag: str
    abi: str
    suffix: str
    include: str
    platform: str
    site: tuple[str, ...]
    glibc: str


@dataclass(frozen=True, slots=True)
class Torch:
    """The torch beside the interpreter. ``version`` keeps its local label; ``cuda`` is None for a CPU build."""

    root: Path
    version: str
    cuda: str | None
    revision: str
    cxx11_abi: bool

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor = self.version.split(".")[:2]
        return int(major), int(minor)


@dataclass(frozen=True, slots=True)
class Target:
    """What a build is for."""

    python: Path
    interpreter: Interpreter
    torch: Torch


def read_target(python: Path) -> Target:
    """Return the target that ``python`` stands for. Raise `BuildFailed` when it does not run or has no torch with CUDA."""
    result = process.run([python, "-I", "-c", _ASK], timeout=60)
    if not result.ok:
        raise BuildFailed(
            f"{python} does not run as a Python",
            why=result.err.strip()[-300:] or None,
            hints=["name the interpreter that has the torch: --python /opt/venv/bin/python"],
            code="no-python",
        )
    interpreter = from_json(result.last_line, Interpreter, what=f"the answer of {python}")
    for folder in interpreter.site:
        if folder and (Path(folder) / "torch" / "version.py").is_file():
            return Target(python, interpreter, read_torch(Path(folder) / "torch"))
    raise BuildFailed(
        f"there is no torch beside {python}",
        why="the extension is compiled against the headers and libraries of the torch that will load it",
        hints=[f"uv pip install --python {python} torch", "name another interpreter with --python"],
        code="no-torch",
    )


def read_torch(root: Path) -> Torch:
    """Return what ``torch/version.py`` and torch's smallest library state, without importing torch.

    Where no library shows the C++ ABI it is taken for the new one, which all builds have since 2.7 (torch 2.7.0's release notes).
    """
    stated = parse_torch_version((root / "version.py").read_text())
    if stated.version is None:
        raise BuildFailed(
            f"{root / 'version.py'} states no version", hints=["that torch is damaged: install it again"], code="no-torch"
        )
    return Torch(root, stated.version, stated.cuda, stated.revision or "", read_abi(root / "lib") is not Abi.PRE_CXX11)
